"""The learning rate and weight decay of every parameter, in any model."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from mmclip.errors import ConfigError
from mmclip.models import CLIPVisionTransformer, SigLIPVisionTransformer
from tests.ft_clip import SOURCES, load

DEPTH, LR, DECAY, WEIGHT_DECAY = 3, 1e-3, 0.5, 0.05


def backbone(cls=CLIPVisionTransformer, **kwargs) -> nn.Module:
    arch = dict(width=32, depth=DEPTH, num_heads=2, mlp_width=64)
    defaults = dict(arch=arch, act='gelu', img_size=16, patch_size=8)
    return cls(**(defaults | kwargs))


class Classifier(nn.Module):
    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(32, 2)


WRAPPER = dict(
    constructor='mmclip.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=LR, weight_decay=WEIGHT_DECAY),
    paramwise_cfg=dict(layer_decay_rate=DECAY),
)


def build(model: nn.Module, **settings):
    paramwise_cfg = WRAPPER['paramwise_cfg'] | settings
    cfg = WRAPPER | dict(paramwise_cfg=paramwise_cfg)
    return build_optim_wrapper(model, cfg).optimizer


def settings(optimizer) -> dict[str, dict]:
    """The group of each parameter, by the parameter's name."""
    groups = {}
    for group in optimizer.param_groups:
        for name in group['param_names']:
            assert name not in groups
            groups[name] = group
    return groups


def ft_clip_layer(name: str, depth: int) -> int:
    """``get_num_layer_for_vit`` of FT-CLIP, for our names."""
    stem = ('cls_token', 'pos_embed', 'patch_embed', 'pre_norm')
    if name.startswith(tuple(f'backbone.{part}' for part in stem)):
        return 0
    if name.startswith('backbone.layers.'):
        return int(name.split('.')[2]) + 1
    return depth + 1


@pytest.mark.parametrize('name', [*SOURCES, 'clip-l-336_cls-token_in1k'])
def test_the_recipes_do_what_ft_clip_does(name):
    source = SOURCES[name.removesuffix('_cls-token_in1k')]
    cfg, depth = load(name), source.depth
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    parameters = dict(model.named_parameters())
    groups = settings(optimizer)
    assert set(groups) == {n for n, p in parameters.items() if p.requires_grad}
    for name, group in groups.items():
        exponent = depth + 1 - ft_clip_layer(name, depth)
        assert group['lr'] == pytest.approx(
            source.lr * source.layer_decay**exponent
        ), name
        exempt = (
            parameters[name].ndim == 1
            or name.endswith('.bias')
            or name in ('backbone.cls_token', 'backbone.pos_embed')
        )
        assert group['weight_decay'] == (0 if exempt else 0.05), name
    # The stem may have nothing that decays.
    assert len(optimizer.param_groups) <= 2 * (depth + 2)


def test_fused_steps_are_those_of_a_loop_up_to_rounding():
    torch.manual_seed(0)
    models = {fused: Classifier(backbone()) for fused in (True, False)}
    models[False].load_state_dict(models[True].state_dict())
    start = [p.clone() for p in models[True].parameters()]
    for fused, model in models.items():
        cfg = WRAPPER | dict(
            optimizer=WRAPPER['optimizer'] | dict(fused=fused)
        )
        optimizer = build_optim_wrapper(model, cfg).optimizer
        for step in range(20):
            torch.manual_seed(step)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
    for one, other, was in zip(
        *(model.parameters() for model in models.values()), start, strict=True
    ):
        rounding = torch.finfo(torch.float32).eps * one.abs().max().item()
        assert not torch.equal(one, was)
        torch.testing.assert_close(one, other, rtol=0, atol=4 * rounding)


def test_groups_hold_the_parameters_that_they_name():
    model = Classifier(backbone())
    parameters = dict(model.named_parameters())
    for group in build(model).param_groups:
        named = [parameters[name] for name in group['param_names']]
        assert list(map(id, named)) == list(map(id, group['params']))


class Deep(nn.Module):
    """A backbone deep in a model, whose other parts look like one."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2)])
        self.wrapper = nn.ModuleDict(dict(detector=Classifier(backbone())))


def test_the_backbone_is_found_wherever_it_stands():
    groups = settings(build(Deep()))
    deep = 'wrapper.detector.backbone'
    assert groups[f'{deep}.pos_embed']['lr'] == LR * DECAY ** (DEPTH + 1)
    assert groups[f'{deep}.layers.2.ln1.weight']['lr'] == LR * DECAY
    assert groups['layers.0.weight']['lr'] == LR


def test_two_backbones_have_layers_of_their_own():
    model = nn.ModuleList([backbone(), backbone(SigLIPVisionTransformer)])
    groups = settings(build(model))
    for i in range(2):
        name = f'{i}.layers.0.ln1.weight'
        assert groups[name]['lr'] == LR * DECAY**DEPTH


def learning_rates(model: nn.Module, **paramwise_cfg) -> dict[str, float]:
    groups = settings(build(model, **paramwise_cfg))
    return {name: group['lr'] for name, group in groups.items()}


def test_compiling_changes_nothing():
    model = Classifier(torch.compile(backbone(), backend='eager'))
    assert 'backbone._orig_mod.pos_embed' in dict(model.named_parameters())
    assert learning_rates(model) == learning_rates(Classifier(backbone()))


@pytest.fixture
def process_group():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group(
        'gloo', store=store, rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_data_parallel_training_changes_nothing(process_group):
    model = nn.parallel.DistributedDataParallel(Classifier(backbone()))
    assert learning_rates(model) == learning_rates(Classifier(backbone()))


def flatten(use_orig_params: bool) -> nn.Module:
    """Wrapped in torch's first FSDP, the backbone's blocks too."""
    model = Classifier(backbone())
    blocks = {type(model.backbone.layers[0])}
    return FullyShardedDataParallel(
        model,
        auto_wrap_policy=ModuleWrapPolicy(blocks),
        use_orig_params=use_orig_params,
        device_id=torch.device('cpu'),
    )


def test_the_first_fsdp_changes_nothing(process_group):
    model = flatten(use_orig_params=True)
    wrapped = '_fsdp_wrapped_module.backbone.layers.0._fsdp_wrapped_module.'
    assert any(n.startswith(wrapped) for n, _ in model.named_parameters())
    assert learning_rates(model) == learning_rates(Classifier(backbone()))


@pytest.mark.parametrize(
    ('use_orig_params', 'paramwise_cfg'),
    [(False, {}), (True, dict(flat_decay_mult=0.0))],
)
def test_what_the_first_fsdp_hides_is_refused(
    process_group, use_orig_params, paramwise_cfg
):
    with pytest.raises(
        ValueError, match='FullyShardedDataParallel has flattened'
    ):
        build(flatten(use_orig_params), **paramwise_cfg)


def test_frozen_parts_are_left_out():
    groups = settings(build(Classifier(backbone(frozen_stages=1))))
    assert 'backbone.layers.0.ln1.weight' not in groups
    assert groups['backbone.layers.1.ln1.weight']['lr'] == LR * DECAY**2


def without_decay(groups: dict[str, dict]) -> set[str]:
    return {n for n, g in groups.items() if g['weight_decay'] == 0}


def test_by_default_all_decay():
    groups = settings(build(Classifier(backbone())))
    assert {g['weight_decay'] for g in groups.values()} == {WEIGHT_DECAY}


@pytest.mark.parametrize(
    ('key', 'exempt'),
    [
        ('norm_decay_mult', {'ln1.weight', 'ln1.bias'}),
        (
            'bias_decay_mult',
            {'ln1.bias', 'attn.qkv.bias', 'attn.proj.bias'}
            | {'ffn.layers.1.bias'},
        ),
    ],
)
def test_each_factor_has_its_parameters(key, exempt):
    found = without_decay(
        settings(build(Classifier(backbone()), **{key: 0.0}))
    )
    assert {f'backbone.layers.0.{name}' for name in exempt} <= found
    assert 'backbone.layers.0.attn.qkv.weight' not in found


def test_what_is_flat_may_not_decay():
    model = Classifier(backbone(layer_scale_init=0.1))
    found = without_decay(settings(build(model, flat_decay_mult=0.0)))
    assert 'backbone.layers.0.attn.gamma1.weight' in found
    assert found == {n for n, p in model.named_parameters() if p.ndim == 1}


def test_custom_keys_come_first_and_the_longest_counts():
    custom = {
        'layers.0': dict(decay_mult=3.0),
        'layers.0.ln1': dict(decay_mult=2.0, lr_mult=10.0),
    }
    factors = dict(norm_decay_mult=0.0, custom_keys=custom)
    groups = settings(build(Classifier(backbone()), **factors))
    ln1 = groups['backbone.layers.0.ln1.weight']
    assert ln1['weight_decay'] == 2 * WEIGHT_DECAY
    assert ln1['lr'] == pytest.approx(10 * LR * DECAY**DEPTH)
    ln2 = groups['backbone.layers.0.ln2.weight']
    assert ln2['weight_decay'] == pytest.approx(3 * WEIGHT_DECAY)
    assert groups['backbone.ln1.weight']['weight_decay'] == 0


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(norm_decay_mul=0.0), ConfigError, "mean 'norm_decay_mult'"),
        (
            dict(custom_keys={'cls_token': dict(decay_mul=0.0)}),
            ConfigError,
            "did you mean 'decay_mult'",
        ),
        (
            dict(custom_keys={'cls_tokn': dict(decay_mult=0.0)}),
            ValueError,
            'cls_tokn matches no',
        ),
    ],
)
def test_misspelt_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        build(Classifier(backbone()), **settings)


def test_a_model_without_layers_is_refused():
    with pytest.raises(ValueError, match='no backbone that knows'):
        build(Classifier(nn.Linear(2, 32)))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(paramwise_cfg=None), 'no layer_decay_rate'),
        (dict(paramwise_cfg=dict(bias_decay_mult=0)), 'no layer_decay_rate'),
        (dict(optimizer=dict(type='AdamW')), 'lr is required'),
    ],
)
def test_what_the_rates_are_made_of_must_be_there(change, message):
    with pytest.raises(ConfigError, match=message):
        build_optim_wrapper(Classifier(backbone()), WRAPPER | change)
