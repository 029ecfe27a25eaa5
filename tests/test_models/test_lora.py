"""LoRA around our backbone: what is trained, saved, loaded and refused."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmclip.checkpoint import CheckpointError, write_checkpoint
from mmclip.engine.config.load import load_config
from mmclip.models import CLIPVisionTransformer
from tests.conftest import REPOSITORY
from tests.test_checkpoint.lora import lora_config, write_tower


@pytest.fixture
def cfg(tmp_path):
    """A classifier with LoRA around a tower of random weights."""
    init_default_scope('mmpretrain')
    write_tower(tmp_path / 'tower.pth')
    return lora_config(tmp_path / 'tower.pth')


def build(cfg):
    """Build and initialise, as the runner does."""
    model = MODELS.build(copy.deepcopy(cfg))
    model.init_weights()
    return model


def step(model):
    """Move whatever is trained."""
    for param in model.parameters():
        if param.requires_grad:
            torch.nn.init.normal_(param, std=0.1)


def test_it_starts_with_the_outputs_of_the_tower(cfg, tmp_path):
    tower = MODELS.build(cfg['backbone']['module'])
    tower.init_weights()
    x = torch.randn(2, 3, 32, 32)
    ours = build(cfg).eval().backbone(x)
    assert torch.equal(ours[0], tower.eval()(x)[0])
    random = dict(cfg['backbone']['module'], init_cfg=None)
    assert not torch.allclose(ours[0], MODELS.build(random).eval()(x)[0])


def test_only_lora_and_head_are_trained_and_saved(cfg):
    model = build(cfg).train()
    x = torch.randn(2, 3, 32, 32)
    before = copy.deepcopy(dict(model.named_parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(2):  # the first leaves lora_down, since lora_up is zero
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    moved = {
        name
        for name, param in model.named_parameters()
        if not torch.equal(param, before[name])
    }
    wanted = {
        f'backbone.module.layers.{i}.{layer}.lora_{part}.weight'
        for i in (0, 1)
        for layer in ('attn.qkv', 'attn.proj', 'ffn.layers.0.0')
        for part in ('down', 'up')
    } | {'head.fc.weight', 'head.fc.bias'}
    assert moved == wanted
    assert set(model.state_dict()) == wanted | {'backbone.lora_base'}


def test_what_is_fresh_is_trained_and_saved(cfg):
    module = cfg['backbone']['module']
    module |= dict(out_type='featmap', norm_outputs='each')
    module['init_cfg']['fresh'] = ['out_norms']
    backbone, other = (build(cfg).backbone for _ in range(2))
    norm = backbone.module.out_norms[0]
    assert norm.weight.requires_grad and norm.bias.requires_grad
    step(backbone)
    state_dict = backbone.state_dict()
    norms = {key for key in state_dict if '.lora_' not in key}
    parts = {f'module.out_norms.0.{kind}' for kind in ('weight', 'bias')}
    assert norms == parts | {'lora_base'}
    other.load_state_dict(state_dict, strict=True)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(backbone.eval()(x)[0], other.eval()(x)[0])
    for key in parts:
        partial = {k: v for k, v in state_dict.items() if k != key}
        with pytest.raises(RuntimeError, match=key):
            other.load_state_dict(partial, strict=True)


def test_what_is_fresh_and_unused_is_not_trained(cfg):
    """As data-parallel training needs it."""
    module = cfg['backbone']['module']
    module |= dict(out_type='featmap', norm_outputs='none')
    module['init_cfg']['fresh'] = ['ln1']
    assert not build(cfg).backbone.module.ln1.weight.requires_grad


def test_blocks_that_are_frozen_or_not_run_have_no_updates(cfg):
    module = cfg['backbone']['module']
    module |= dict(out_type='featmap', out_indices=[0])
    params = dict(build(cfg).backbone.module.layers.named_parameters())
    trained = {k for k, p in params.items() if p.requires_grad}
    assert trained and not [k for k in trained if not k.startswith('0.')]
    module |= dict(out_indices=[1], frozen_stages=1)
    params = dict(build(cfg).backbone.module.layers.named_parameters())
    trained = {k for k, p in params.items() if p.requires_grad}
    assert trained and not [k for k in trained if not k.startswith('1.')]
    module |= dict(frozen_stages=2)
    with pytest.raises(ValueError, match='all targets are frozen'):
        build(cfg)


def test_a_checkpoint_gives_the_same_outputs_again(cfg):
    first, second = build(cfg), build(cfg)
    step(first)
    x = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(first.eval()(x), second.eval()(x))
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first(x), second(x))


def test_other_base_weights_are_refused(cfg, tmp_path):
    state_dict = build(cfg).state_dict()
    write_tower(tmp_path / 'tower.pth', seed=1)
    with pytest.raises(CheckpointError, match='different base weights'):
        build(cfg).load_state_dict(state_dict)


def test_rounded_base_weights_are_the_same(cfg, tmp_path):
    """As from a file in half precision, or a resized position embedding."""
    state_dict = build(cfg).state_dict()
    write_tower(tmp_path / 'tower.pth', rounded=True)
    build(cfg).load_state_dict(state_dict)


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('backbone.module.layers.0.attn.qkv.lora_up.weight', 'Missing'),
        ('head.fc.bias', 'Missing'),
        ('backbone.lora_base', 'Missing'),
        ('backbone.module.layers.9.ln1.bias', 'Unexpected'),
        ('neck.weight', 'Unexpected'),
    ],
)
def test_what_does_not_fit_is_an_error(cfg, key, message):
    model = build(cfg)
    state_dict = model.state_dict()
    if message == 'Missing':
        del state_dict[key]
    else:
        state_dict[key] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=f'{message} key.*{key}'):
        model.load_state_dict(state_dict)


def test_a_checkpoint_without_lora_is_an_error(cfg):
    plain = dict(cfg, backbone=cfg['backbone']['module'])
    state_dict = build(plain).state_dict()
    with pytest.raises(RuntimeError, match='lora_down'):
        build(cfg).load_state_dict(state_dict)


@pytest.mark.parametrize('ours', [True, False])
def test_the_counter_of_the_moving_average_is_saved(cfg, ours):
    """mmpretrain's own loses it, and a resumed average starts again."""
    if not ours:
        cfg['backbone']['type'] = 'LoRAModel'
    average = ExponentialMovingAverage(build(cfg))
    assert ('steps' in average.state_dict()) == ours


def test_a_module_without_init_cfg_is_refused(cfg):
    del cfg['backbone']['module']['init_cfg']
    with pytest.raises(ValueError, match='module has no init_cfg'):
        build(cfg)


def test_a_missing_tower_is_explained(cfg, tmp_path):
    (tmp_path / 'tower.pth').unlink()
    with pytest.raises(FileNotFoundError, match='mmclip convert NAME'):
        build(cfg)


def test_layer_wise_learning_rates_reach_the_updates(cfg):
    optim_wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1.0),
        constructor='mmclip.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    model = build(cfg)
    groups = build_optim_wrapper(model, optim_wrapper).optimizer.param_groups
    rates = {name: g['lr'] for g in groups for name in g['param_names']}
    prefix, suffix = 'backbone.module.layers', 'attn.qkv.lora_up.weight'
    assert rates[f'{prefix}.0.{suffix}'] == 0.25
    assert rates[f'{prefix}.1.{suffix}'] == 0.5
    assert rates['head.fc.weight'] == 1.0
    assert len(rates) == len(list(filter(_trained, model.parameters())))


def _trained(param):
    return param.requires_grad


def test_the_config_has_lora_in_every_block(tmp_path):
    cfg = load_config(
        REPOSITORY / 'configs' / 'clip' / 'clip-l-336_lora_in1k.py'
    )
    init_default_scope(cfg.default_scope)
    module = cfg.model.backbone.module
    module.arch = dict(width=32, depth=3, num_heads=2, mlp_width=64)
    cfg.model.head.in_channels = 32
    tower = CLIPVisionTransformer(
        **{k: v for k, v in module.items() if k not in ('type', 'init_cfg')}
    )
    module.init_cfg.checkpoint = str(tmp_path / 'tower.pth')
    write_checkpoint(tower.state_dict(), tmp_path / 'tower.pth')
    model = build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    trained = [p for g in optimizer.param_groups for p in g['params']]
    number = sum(p.numel() for p in trained if p.requires_grad)
    updates = 3 * 16 * (32 + 96)  # blocks x rank x (in + out)
    assert number == updates + 1000 * 32 + 1000
    assert model(torch.zeros(1, 3, 336, 336)).shape == (1, 1000)
