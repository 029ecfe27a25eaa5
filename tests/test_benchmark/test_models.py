"""Towers of all libraries compute the same before they are timed."""

import pytest
import torch
from torch import nn

from mmclip.benchmark import models
from mmclip.benchmark.models import PEERS, model_cases
from mmclip.benchmark.rounds import OURS, YARDSTICK
from mmclip.errors import ArgumentError
from tests.test_analysis.test_complexity import closed_form

CPU = torch.device('cpu')


def cases(training=False, **kwargs):
    precisions = ['fp32', 'bf16']
    return model_cases(
        [('tiny', 2)], precisions, CPU, training=training, **kwargs
    )


@pytest.mark.parametrize('training', [False, True])
def test_all_peers_take_part_with_the_same_outputs(training):
    fp32, bf16 = cases(training)
    for case in fp32, bf16:
        names = [entry.name for entry in case.entries]
        assert names == [OURS, *PEERS, YARDSTICK]
        assert not case.missing
    for entry in fp32.entries[:-1]:
        assert entry.difference < 1e-5
        entry.call()
    assert bf16.entries[1].difference > fp32.entries[1].difference


@pytest.mark.parametrize('training', [False, True])
def test_a_peer_that_computes_something_else_is_refused(monkeypatch, training):
    def other(cfg, weights):
        tower, call = PEERS['timm'](cfg, weights)
        with torch.no_grad():
            tower.norm_pre = nn.Identity()
        return tower, call

    monkeypatch.setattr(models, 'PEERS', dict(other=other))
    with pytest.raises(ArgumentError, match='other and mmclip differ by'):
        next(cases(training))


def test_what_is_not_installed_is_named(monkeypatch):
    def missing(cfg, weights):
        import no_such_library  # noqa: F401

    monkeypatch.setattr(models, 'PEERS', dict(missing=missing))
    case = next(cases())
    assert [entry.name for entry in case.entries] == [OURS, YARDSTICK]
    assert 'no_such_library' in case.missing[0]


def test_only_some_peers():
    names = [entry.name for entry in next(cases(only=['timm'])).entries]
    assert names == [OURS, 'timm', YARDSTICK]


def test_training_needs_more_memory_and_leaves_no_gradients():
    infer, train = next(cases()), next(cases(training=True))
    assert train.entries[0].peak > infer.entries[0].peak > 0


def test_operations_are_those_of_the_closed_form():
    _, macs = closed_form(64, 2, 256, patch=16, size=32, classes=0)
    infer, train = next(cases()), next(cases(training=True))
    assert infer.entries[0].work == 2 * 2 * macs  # of two images
    assert train.entries[0].work == 3 * infer.entries[0].work
