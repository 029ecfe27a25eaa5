"""Options that compute less, and the script for a GPU."""

import pytest
import torch

from mmclip.benchmark import gpu
from mmclip.benchmark.options import option_cases
from mmclip.benchmark.rounds import OURS
from mmclip.commands.bench import main

CPU = torch.device('cpu')


def test_options_are_named_and_run():
    infer, train = option_cases([('tiny', 2)], ['fp32'], CPU)
    plain, half, most, int8 = infer.entries
    assert plain.name == OURS and plain.difference == 0
    assert half.name == '1 tokens merged per block'
    assert int8.name == 'int8, 0 of 1 MB'
    assert 0 < int8.difference < 0.2
    assert 0 < half.difference < 0.2 and most.name.startswith('2 tokens')
    assert [entry.name for entry in train.entries] == [
        OURS,
        'patch_dropout=0.25',
        'patch_dropout=0.5',
        'with_cp=True',
        '2/3 of the side',
    ]
    # Of five tokens, weights are the most.
    assert all(e.peak <= train.entries[0].peak for e in train.entries)
    for entry in *infer.entries, *train.entries:
        entry.call()


@pytest.mark.exhaustive  # compiles two towers
def test_the_script_for_a_gpu_runs_on_a_cpu(monkeypatch, capsys):
    monkeypatch.setattr(gpu, 'LOADED', 8)
    assert main(['gpu', '--device', 'cpu', '--rounds', '2']) == 0
    printed = capsys.readouterr().out
    for part in (
        'tiny, inference, batch 2, bf16',
        'timm, compiled',
        'kernels of attention',
        'order of pixels',
        'a step of AdamW',
        'workers',
        'whole iteration',
        'Largest batches: not looked for on a cpu',
    ):
        assert part in printed
