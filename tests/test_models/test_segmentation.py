"""A backbone in mmsegmentation, where that is installed."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

pytest.importorskip('mmseg')

DEPTH, WIDTH, CLASSES, LR, DECAY = 4, 32, 5, 1e-3, 0.5
STEM = ('cls_token', 'pos_embed', 'patch_embed', 'pre_norm')


@pytest.fixture
def segmentor():
    import mmseg.models  # noqa: F401 (registers them)
    from mmseg.registry import MODELS

    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(
                type='mmclip.CLIPVisionTransformer',
                arch=dict(width=WIDTH, depth=DEPTH, num_heads=2, mlp_width=64),
                act='quick_gelu',
                img_size=64,
                patch_size=8,
                out_indices=tuple(range(DEPTH)),
                out_type='featmap',
            ),
            decode_head=dict(
                type='FCNHead',
                in_channels=[WIDTH] * DEPTH,
                in_index=list(range(DEPTH)),
                input_transform='resize_concat',
                channels=16,
                num_classes=CLASSES,
            ),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    )


def test_maps_of_several_blocks_reach_the_head(segmentor):
    with torch.no_grad():
        logits = segmentor(torch.randn(2, 3, 64, 48), mode='tensor')
    assert logits.shape == (2, CLASSES, 8, 6)


def test_every_parameter_has_the_rate_of_its_layer(segmentor):
    cfg = dict(
        constructor='mmclip.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=LR),
        paramwise_cfg=dict(layer_decay_rate=DECAY),
    )
    groups = build_optim_wrapper(segmentor, cfg).optimizer.param_groups
    rates = {name: g['lr'] for g in groups for name in g['param_names']}
    assert rates.keys() == dict(segmentor.named_parameters()).keys()
    for name, rate in rates.items():
        above = 0
        if name.startswith('backbone.layers.'):
            above = DEPTH - int(name.split('.')[2])
        elif name.startswith(tuple(f'backbone.{part}' for part in STEM)):
            above = DEPTH + 1
        assert rate == pytest.approx(LR * DECAY**above), name
