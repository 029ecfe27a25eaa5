"""The configs of the linear probe and of LP-FT, which starts from it."""

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmclip.engine.config.load import load_config
from tests.conftest import REPOSITORY

PROBE, LP_FT = 'clip-l-336_linear-probe_in1k', 'clip-l-336_lp-ft_in1k'


def load(name):
    """The config with a small tower that has no file of weights."""
    cfg = load_config(REPOSITORY / 'configs' / 'clip' / f'{name}.py')
    init_default_scope(cfg.default_scope)
    backbone = cfg.model.backbone
    assert backbone.frozen_stages in (-1, 24)  # nothing, or ViT-L whole
    backbone.arch = dict(width=32, depth=3, num_heads=2, mlp_width=64)
    backbone.frozen_stages = min(backbone.frozen_stages, 3)
    backbone.init_cfg = None
    cfg.model.head.in_channels = 32
    return cfg, MODELS.build(cfg.model)


@pytest.mark.parametrize('name', [PROBE, LP_FT])
def test_the_feature_is_clips_before_its_projection(name):
    _, model = load(name)
    assert (model.backbone.out_type, model.backbone.pool) == (
        'pooled',
        'cls_token',
    )
    assert model.backbone.proj is None


def test_the_probe_trains_the_head_alone():
    _, model = load(PROBE)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained == ['head.fc.weight', 'head.fc.bias']


def test_lp_ft_trains_all_as_its_source_does():
    cfg, model = load(LP_FT)
    assert all(p.requires_grad for p in model.parameters())
    (group,) = build_optim_wrapper(
        model, cfg.optim_wrapper
    ).optimizer.param_groups
    assert len(group['params']) == len(list(model.parameters()))
    found = {k: group[k] for k in ('lr', 'momentum', 'weight_decay')}
    assert found == dict(lr=3e-5, momentum=0.9, weight_decay=0.0)
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[0].T_max == 10
    assert cfg.auto_scale_lr.base_batch_size == 128


def test_lp_ft_starts_from_what_the_probe_writes():
    probe_cfg, probe = load(PROBE)
    cfg, model = load(LP_FT)
    assert cfg.load_from == f'{probe_cfg.work_dir}/linear_probe.pth'
    model.load_state_dict(probe.state_dict(), strict=True)
