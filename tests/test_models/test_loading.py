"""Weights that will be loaded are not drawn first, nor used unloaded."""

import pytest
import torch
from mmengine.config import Config

from mmclip.engine.config.build import build_runner
from mmclip.errors import CheckpointError
from mmclip.models import LoRAModel
from mmclip.models.loading import CALLER, INIT_CFG, loaded_by
from tests.test_models.conftest import TINY, images, tiny

PRETRAINED = dict(type='mmclip.PretrainedCLIP', checkpoint='clip.pth')


def is_drawn(model):
    with torch.no_grad():
        return bool(model.eval()(images())[-1].isfinite().all())


@pytest.mark.parametrize(
    ('who', 'init_cfg', 'drawn'),
    [
        (None, PRETRAINED, True),
        (CALLER, None, False),
        (INIT_CFG, None, True),
        (INIT_CFG, PRETRAINED, False),
        (INIT_CFG, PRETRAINED | dict(fresh=['ln1']), False),
        (INIT_CFG, PRETRAINED | dict(fresh=['layers.1']), True),
        (INIT_CFG, dict(type='Pretrained', checkpoint='clip.pth'), True),
        (INIT_CFG, [PRETRAINED], True),
    ],
)
def test_blocks_are_drawn_unless_all_of_them_are_loaded(who, init_cfg, drawn):
    if who is None:
        model = tiny(init_cfg=init_cfg)
    else:
        with loaded_by(who):
            model = tiny(init_cfg=init_cfg)
    assert is_drawn(model) == drawn
    assert is_drawn(tiny())  # afterwards
    if not drawn:
        model.load_state_dict(tiny().state_dict())
        torch.testing.assert_close(model(images()), tiny().eval()(images()))


def test_drawn_blocks_have_the_standard_deviations_of_clip():
    model = tiny(arch=dict(width=256, depth=4, num_heads=4, mlp_width=512))
    layer = model.layers[2]
    for weight, std in (
        (layer.attn.qkv.weight, 256**-0.5),
        (layer.attn.proj.weight, 256**-0.5 * 8**-0.5),
        (layer.ffn.layers[0][0].weight, 512**-0.5),
        (layer.ffn.layers[1].weight, 256**-0.5 * 8**-0.5),
    ):
        assert weight.std().item() == pytest.approx(std, rel=0.02)
    for norm in layer.ln1, layer.ln2:
        assert norm.weight.eq(1).all() and norm.bias.eq(0).all()


@pytest.mark.parametrize('lora', [False, True])
def test_a_run_refuses_blocks_without_weights(tmp_path, lora):
    backbone = dict(
        type='mmclip.CLIPVisionTransformer',
        arch=TINY,
        act='gelu',
        img_size=32,
        patch_size=8,
        init_cfg=PRETRAINED | dict(checkpoint=str(tmp_path / 'clip.pth')),
    )
    if lora:
        torch.save(tiny().state_dict(), tmp_path / 'clip.pth')
        backbone = dict(
            type=LoRAModel.__name__, _scope_='mmclip', module=backbone,
            alpha=1, rank=1, targets=[dict(type='qkv')],
        )  # fmt: skip
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            work_dir=str(tmp_path),
            model=dict(
                type='ImageClassifier',
                backbone=backbone,
                head=dict(type='LinearClsHead', num_classes=2, in_channels=32),
            ),
        )
    )
    runner = build_runner(cfg)
    if lora:  # which loads the weights when it is built
        runner.load_or_resume()
        return
    with pytest.raises(CheckpointError, match='backbone has no weights yet'):
        runner.load_or_resume()
