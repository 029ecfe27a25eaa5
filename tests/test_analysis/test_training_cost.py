"""Counts of training against what must be so."""

import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from mmclip.analysis.complexity import count_complexity
from mmclip.analysis.training_cost import count_training_cost
from tests.conftest import REPOSITORY


def config(ema=False, **backbone):
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=dict(
                    type='mmclip.CLIPVisionTransformer',
                    arch=dict(width=64, depth=4, num_heads=4, mlp_width=256),
                    act='gelu',
                    img_size=64,
                    patch_size=8,
                    **backbone,
                ),
                head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
            ),
            custom_hooks=[dict(type='EMAHook')] if ema else [],
        )
    )


def test_backward_costs_twice_the_forward():
    """More by the recomputing in attention, less by the input's gradient."""
    forward = 2 * count_complexity(config(), (64, 64)).macs
    assert 2.8 < count_training_cost(config()).flops_per_image / forward < 3.5


def test_states_are_those_of_adamw_in_float32():
    cost = count_training_cost(config())
    assert cost.bytes_of_states == 16 * cost.params
    ema = count_training_cost(config(ema=True))
    assert ema.bytes_of_states == 20 * cost.params


def test_what_is_frozen_costs_less():
    whole = count_training_cost(config())
    half = count_training_cost(config(frozen_stages=2))
    assert half.params < 0.6 * whole.params
    assert half.flops_per_image < 0.8 * whole.flops_per_image
    assert half.bytes_per_image < 0.6 * whole.bytes_per_image
    assert half.bytes_of_states < whole.bytes_of_states


def test_recomputing_trades_memory_for_operations():
    plain = count_training_cost(config())
    recomputed = count_training_cost(config(with_cp=True))
    assert recomputed.bytes_per_image < plain.bytes_per_image / 4
    assert recomputed.flops_per_image > 1.2 * plain.flops_per_image


def test_activations_are_those_that_a_real_run_keeps():
    from mmengine.registry import MODELS, init_default_scope

    cfg = config()
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model).train()

    def kept(batch):
        sizes = {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
            torch.autocast('cpu', torch.bfloat16),
        ):
            logits = model(torch.zeros(batch, 3, 64, 64))
            logits.float().logsumexp(dim=1).sum()
        return sum(sizes.values())

    counted = count_training_cost(cfg).bytes_per_image
    assert counted == pytest.approx(kept(2) - kept(1), rel=0.02)


def test_the_tool_prints_a_table():
    tool = REPOSITORY / 'tools' / 'analysis_tools' / 'training_cost.py'
    lines = subprocess.run(
        [sys.executable, tool, 'configs/clip/clip-b16-224.py'],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    cells = [cell.strip() for cell in lines[-1].split('|')[1:-1]]
    assert cells[0] == 'clip-b16-224.py'
    assert cells[5] == '256'
    # 106 GFLOP, 50 epochs of ImageNet at 150 TFLOP/s.
    assert float(cells[-1]) == pytest.approx(12.5, abs=1)
