"""Counts of training against what must be so."""

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmclip.analysis.complexity import count_complexity
from mmclip.analysis.training_cost import count_training_cost
from tests.conftest import REPOSITORY, save_whole_model
from tests.processes import finish, start

NOT_THERE = dict(type='mmclip.PretrainedCLIP', checkpoint='not/there.pth')


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


def lora(init_cfg=NOT_THERE):
    cfg = config()
    module = dict(cfg.model.backbone, init_cfg=init_cfg)
    cfg.model.backbone = dict(
        type='mmclip.LoRAModel',
        module=module,
        alpha=4,
        rank=4,
        drop_rate=0.1,
        targets=[dict(type='attn.qkv')],
    )
    return cfg


def flyp(folder, layers=2):
    """A config, and open_clip's model with the same towers."""
    text = dict(
        context_length=16, vocab_size=49408, width=16, heads=2, layers=layers
    )
    folder = folder / str(layers)
    folder.mkdir()
    whole = save_whole_model(folder, text_cfg=text)
    cfg = config()
    cfg.model = dict(
        type='mmclip.ContrastiveClassifier',
        backbone=dict(
            type='mmclip.CLIPVisionTransformer',
            arch=dict(width=32, depth=2, num_heads=2, mlp_width=64),
            act='quick_gelu',
            img_size=32,
            patch_size=8,
            proj_dim=24,
            init_cfg=NOT_THERE,
        ),
        text=dict(
            type='mmclip.OpenCLIPTextTower',
            model=str(folder / 'open_clip_config.json'),
            pretrained='not/there.bin',
        ),
        classes=['cat', 'dog'],
        templates=['a photo of a {}'],
    )
    return cfg, whole


@pytest.fixture(scope='module')
def plain():
    """What fine-tuning the whole of the small model costs."""
    return count_training_cost(config())


def test_backward_costs_twice_the_forward(plain):
    """More by the recomputing in attention, less by the input's gradient."""
    cfg = config(pool='avg')
    forward = 2 * count_complexity(cfg, (64, 64)).macs
    cost = count_training_cost(cfg).flops_per_image
    assert 2.8 < cost / forward < 3.5
    # For the class token alone, the last of four blocks is nearly free.
    assert 0.75 < plain.flops_per_image / cost < 0.9


def test_states_are_those_of_adamw_in_float32(plain):
    assert plain.bytes_of_states == 16 * plain.params
    ema = count_training_cost(config(ema=True))
    assert ema.bytes_of_states == 20 * plain.params


def test_what_is_frozen_costs_less(plain):
    half = count_training_cost(config(frozen_stages=2))
    assert half.params < 0.6 * plain.params
    assert half.flops_per_image < 0.8 * plain.flops_per_image
    assert half.bytes_per_image < 0.6 * plain.bytes_per_image
    assert half.bytes_of_states < plain.bytes_of_states


def test_recomputing_trades_memory_for_operations(plain):
    recomputed = count_training_cost(config(with_cp=True))
    assert recomputed.bytes_per_image < plain.bytes_per_image / 4
    assert recomputed.flops_per_image > 1.2 * plain.flops_per_image


def test_lora_trains_its_updates_and_the_head(plain):
    updates = count_training_cost(lora())
    assert updates.params == 4 * 4 * (64 + 3 * 64) + 5 * (64 + 1)
    frozen = plain.params - 5 * (64 + 1)
    assert updates.bytes_of_states == 16 * updates.params + 4 * frozen
    # Gradients of the weights, a third of it all, are left out.
    assert 0.6 < updates.flops_per_image / plain.flops_per_image < 0.8


def test_lora_does_not_log_every_parameter(log):
    count_training_cost(lora())
    MMLogger.get_current_instance().info('afterwards')
    assert log == ['afterwards']


def test_flyp_trains_both_towers(tmp_path):
    cfg, whole = flyp(tmp_path)
    cost = count_training_cost(cfg)
    assert cost.params == sum(p.numel() for p in whole.parameters())


@pytest.mark.slow
def test_flyp_counts_a_caption_with_each_image(tmp_path):
    """A block has 12 w^2 n multiplications, and 2 n^2 w in attention."""
    cfg, _ = flyp(tmp_path, layers=2)
    two = count_training_cost(cfg)
    four = count_training_cost(flyp(tmp_path, layers=4)[0])
    n = w = 16
    block = 3 * 2 * 12 * w**2 * n + 14 * n**2 * w  # attention recomputes
    assert four.flops_per_image - two.flops_per_image == 2 * block
    assert four.bytes_per_image > two.bytes_per_image

    images = config()
    images.model.backbone = cfg.model.backbone
    images.model.head.update(num_classes=2, in_channels=24)
    flops = count_training_cost(images).flops_per_image + 2 * block
    assert two.flops_per_image == pytest.approx(flops, rel=0.01)


@pytest.mark.parametrize(
    'cfg', [config(), lora(init_cfg={})], ids=['fine-tuning', 'lora']
)
def test_activations_are_those_that_a_real_run_keeps(cfg):
    from mmengine.registry import MODELS, init_default_scope

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
    config = 'configs/clip/clip-b16-224.py'
    lines = finish(start(tool, config, cwd=REPOSITORY)).splitlines()
    cells = [cell.strip() for cell in lines[-1].split('|')[1:-1]]
    assert cells[0] == 'clip-b16-224.py'
    assert cells[5] == '256'
    # 106 GFLOP, 50 epochs of ImageNet at 150 TFLOP/s.
    assert float(cells[-1]) == pytest.approx(12.5, abs=1)
