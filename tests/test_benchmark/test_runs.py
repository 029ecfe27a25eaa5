"""Whole iterations of a run, beside a loop that does nothing but train."""

import pytest
import torch

from mmclip.benchmark import runs
from mmclip.benchmark.rounds import OURS
from mmclip.benchmark.runs import BARE_LOOP, time_iterations

CPU = torch.device('cpu')


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_both_train_on_the_same_images(precision):
    ((rows, waits),) = time_iterations([('tiny', 2)], [precision], CPU, 2)
    assert [row.name for row in rows] == [OURS, BARE_LOOP]
    assert rows[0].case == f'tiny, whole iteration, batch 2, {precision}'
    assert rows[1].difference < (1e-5 if precision == 'fp32' else 1e-2)
    assert not waits  # those for a GPU


def test_a_loop_that_does_something_else_is_refused(monkeypatch):
    class Other(runs._BareLoop):
        def __init__(self, *args):
            super().__init__(*args)
            self.mean = self.mean + 50

    monkeypatch.setattr(runs, '_BareLoop', Other)
    with pytest.raises(RuntimeError, match='does something else'):
        next(time_iterations([('tiny', 2)], ['fp32'], CPU, 2))
