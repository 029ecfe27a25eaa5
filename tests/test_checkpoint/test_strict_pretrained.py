"""``init_cfg=dict(type='Pretrained')``: all of a module's weights, or none."""

import pytest
import torch
from mmengine.model import BaseModule, PretrainedInit
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from torch import nn

from mmclip.checkpoint import CheckpointError

WEIGHTS = dict(weight=torch.ones(1, 1), bias=torch.ones(1))
MISSHAPEN = WEIGHTS | dict(bias=torch.ones(2))
HEAD = {'head.weight': torch.ones(3, 3)}


class Linear(BaseModule):
    """A module with one layer."""

    def __init__(self, **init_cfg):
        super().__init__(dict(type='Pretrained') | init_cfg)
        self.layer = nn.Linear(1, 1)


def prefixed(prefix, weights):
    return {f'{prefix}{key}': tensor for key, tensor in weights.items()}


@pytest.fixture
def load(tmp_path):
    """Initialise a module with weights in a file."""

    def _load(weights, **init_cfg):
        path = str(tmp_path / 'weights.pth')
        torch.save(weights, path)
        module = Linear(checkpoint=path, **init_cfg)
        module.init_weights()
        return module

    return _load


@pytest.mark.parametrize(
    ('weights', 'init_cfg'),
    [
        (prefixed('layer.', WEIGHTS) | HEAD, {}),
        (prefixed('module.layer.', WEIGHTS), {}),
        (prefixed('model.layer.', WEIGHTS), dict(prefix='model')),
        (prefixed('model.layer.', WEIGHTS), dict(prefix='model.')),
    ],
    ids=['with a head', 'of parallel training', 'prefix', 'prefix and dot'],
)
def test_all_weights_are_loaded(load, weights, init_cfg):
    layer = load(weights, **init_cfg).layer
    assert layer.weight.item() == layer.bias.item() == 1


@pytest.mark.parametrize(
    ('weights', 'problem'),
    [
        (prefixed('model.layer.', WEIGHTS), r'missing: layer\.weight'),
        ({'layer.weight': torch.ones(1, 1)}, r'missing: layer\.bias'),
        (prefixed('layer.', MISSHAPEN), r'size mismatch for layer\.bias'),
    ],
    ids=['of another prefix', 'missing', 'misshapen'],
)
def test_what_does_not_fit_is_named_at_once(load, tmp_path, weights, problem):
    message = rf'weights\.pth does not fit the Linear .*{problem}.*fresh='
    with pytest.raises(CheckpointError, match=message):
        load(weights)
    # mmengine's own goes on.
    PretrainedInit(str(tmp_path / 'weights.pth'))(Linear())


@pytest.mark.parametrize(
    'weights',
    [{'layer.weight': torch.ones(1, 1)}, prefixed('layer.', MISSHAPEN)],
)
def test_fresh_parts_keep_their_initialisation(load, weights):
    torch.manual_seed(0)
    own = nn.Linear(1, 1).bias.item()
    torch.manual_seed(0)
    layer = load(weights, fresh=['layer.bias']).layer
    assert (layer.weight.item(), layer.bias.item()) == (1, own)
    with pytest.raises(CheckpointError, match="Linear has no part 'lay'"):
        load(weights, fresh=['lay'])


def test_nothing_below_the_prefix_is_an_error(load):
    with pytest.raises(
        CheckpointError, match=r"no weights with prefix 'model\.'"
    ):
        load(prefixed('layer.', WEIGHTS), prefix='model')


BEIT = dict(
    type='mmpretrain.BEiTViT',
    arch=dict(
        embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64
    ),
    img_size=32,
    patch_size=16,
    use_abs_pos_emb=False,
)
SWIN = dict(
    type='mmpretrain.SwinTransformerV2',
    arch=dict(
        embed_dims=8,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 2, 2],
        extra_norm_every_n_blocks=0,
    ),
    img_size=64,
)


@pytest.mark.parametrize(
    ('saved', 'built'),
    [
        (SWIN, SWIN),
        (
            dict(BEIT, use_shared_rel_pos_bias=True, use_rel_pos_bias=False),
            dict(BEIT, use_rel_pos_bias=True),
        ),
    ],
    ids=['Swin', 'BEiT'],
)
def test_what_models_compute_themselves_is_not_missed(tmp_path, saved, built):
    """Of mmpretrain's towers; a weight that the file lacks is."""
    init_default_scope('mmpretrain')
    path = tmp_path / 'weights.pth'
    weights = MODELS.build(saved).state_dict()
    torch.save(prefixed('backbone.', weights), path)
    init_cfg = dict(
        type='Pretrained', checkpoint=str(path), prefix='backbone.'
    )
    MODELS.build(dict(built, init_cfg=init_cfg)).init_weights()
    key = next(key for key in weights if key.endswith('qkv.weight'))
    del weights[key]
    torch.save(prefixed('backbone.', weights), path)
    tower = MODELS.build(dict(built, init_cfg=init_cfg))
    with pytest.raises(CheckpointError, match=f"Pretrained': missing: {key}"):
        tower.init_weights()
