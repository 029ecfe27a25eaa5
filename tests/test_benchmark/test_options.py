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
    plain, quarter, half, checkpointed, smaller = train.entries
    assert half.peak < quarter.peak < plain.peak
    assert checkpointed.peak < plain.peak
    assert smaller.peak < plain.peak
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
