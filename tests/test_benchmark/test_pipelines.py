"""Pipelines of all libraries see the same photos."""

import pytest
import torch

from mmclip.benchmark import pipelines
from mmclip.benchmark.pipelines import AUGMENT, CROP, PEERS, TEST
from mmclip.benchmark.rounds import OURS


@pytest.fixture(autouse=True)
def small(monkeypatch):
    work = [(kind, (80, 60), 1) for kind in (CROP, AUGMENT, TEST)]
    monkeypatch.setattr(pipelines, 'WORK', work)
    monkeypatch.setattr(pipelines, 'SIZE', 48)


def test_all_take_part_where_they_have_such_a_pipeline():
    threads = torch.get_num_threads()
    for case in pipelines.pipeline_cases():
        assert torch.get_num_threads() == 1
        names = {entry.name for entry in case.entries}
        left_out = {line.partition(' (')[0] for line in case.missing}
        assert names | left_out == set(PEERS)
        assert {OURS, 'mmpretrain', 'timm'} <= names
        for entry in case.entries:
            entry.call()
    assert torch.get_num_threads() == threads


def test_pixels_of_a_test_pipeline_are_compared():
    (case,) = (c for c in pipelines.pipeline_cases() if TEST in c.name)
    differences = {entry.name: entry.difference for entry in case.entries}
    for name in OURS, 'mmpretrain', 'timm', 'open_clip':
        assert differences[name] < 1e-6, name
    # torch resizes tensors, and rounds otherwise than Pillow.
    for name in pipelines.FASTER, 'torchvision v2':
        assert 1e-3 < differences[name] < 0.05, name
