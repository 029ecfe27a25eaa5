"""State dicts of wrong types are refused by whatever takes them."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mmclip.averaging.average import read_weights
from mmclip.checkpoint import CheckpointError, read_state_dict
from mmclip.checkpoint.lora import merge_lora
from mmclip.checkpoint.towers.export import export_checkpoint
from mmclip.checkpoint.towers.tower import build_backbone
from tests.test_checkpoint.lora import lora_config, write_tower

BACKBONE = dict(
    type='mmclip.CLIPVisionTransformer',
    arch=dict(width=8, depth=1, num_heads=2, mlp_width=8),
    act='gelu',
    img_size=8,
    patch_size=4,
)
WRONG = [
    None,
    3,
    [],
    'x',
    {3: torch.zeros(1)},
    {'backbone.pos_embed': None},
    {'backbone.pos_embed': {'x': torch.zeros(1)}},
    {'backbone.pos_embed': 'x', 'pos_embed': [1]},
]


@pytest.fixture(params=WRONG, ids=repr)
def checkpoint(request):
    """Of a tower, with one thing in its weights that is not a tensor."""
    state_dict = copy.deepcopy(request.param)
    if isinstance(state_dict, dict):
        tensors = build_backbone(BACKBONE).state_dict().items()
        state_dict = {f'backbone.{k}': t for k, t in tensors} | state_dict
    clip = dict(backbone=BACKBONE, img_size=8)
    return dict(meta=dict(clip=clip), state_dict=state_dict)


@pytest.fixture
def path(checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / 'x.pth')
    return str(tmp_path / 'x.pth')


@pytest.mark.parametrize('read', [read_state_dict, read_weights])
def test_they_are_not_read_as_weights(path, read):
    with pytest.raises(CheckpointError, match='no state dict'):
        read(path)


@pytest.mark.parametrize('kind', ['mmclip.PretrainedCLIP', 'Pretrained'])
def test_they_are_not_loaded(path, kind):
    init_default_scope('mmpretrain')
    prefix = dict(prefix='backbone.') if kind == 'Pretrained' else {}
    init_cfg = dict(type=kind, checkpoint=path, **prefix)
    backbone = MODELS.build(BACKBONE | dict(init_cfg=init_cfg))
    with pytest.raises(CheckpointError, match='no state dict'):
        backbone.init_weights()


def test_they_are_not_exported(checkpoint):
    with pytest.raises(CheckpointError, match='no state dict'):
        export_checkpoint(checkpoint, 'timm')


def test_they_are_not_merged(checkpoint, tmp_path):
    write_tower(tmp_path / 'tower.pth')
    model = lora_config(tmp_path / 'tower.pth')
    cfg = Config(dict(default_scope='mmpretrain', model=model))
    with pytest.raises(CheckpointError, match='no state dict'):
        merge_lora(cfg, checkpoint)
