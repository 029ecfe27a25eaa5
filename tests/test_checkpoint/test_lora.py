"""Merging LoRA: an ordinary checkpoint with the same outputs."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmclip.analysis.parity import relative_difference
from mmclip.checkpoint import CheckpointError, PretrainedCLIP
from mmclip.checkpoint.describe import describe_model
from mmclip.checkpoint.lora import merge_lora
from mmclip.checkpoint.towers.export import export_checkpoint
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_checkpoint.lora import lora_config, write_tower


@pytest.fixture
def trained(tmp_path):
    """A config, and a model of it whose updates are not zero."""
    init_default_scope('mmpretrain')
    write_tower(tmp_path / 'tower.pth')
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=lora_config(tmp_path / 'tower.pth'),
        )
    )
    model = MODELS.build(copy.deepcopy(cfg.model))
    for param in model.parameters():
        if param.requires_grad:
            torch.nn.init.normal_(param, std=0.1)
    return cfg, model.eval()


def checkpoint_of(model):
    """As a training writes it."""
    classes = ('a', 'b', 'c')
    return dict(
        meta=dict(
            clip=describe_model(model, None, classes),
            epoch=3,
            dataset_meta=dict(classes=classes),
        ),
        state_dict=model.state_dict(),
    )


def test_outputs_are_the_same(trained):
    cfg, model = trained
    merged_cfg, merged = merge_lora(cfg, checkpoint_of(model))
    assert merged_cfg.model.backbone.type == 'mmclip.CLIPVisionTransformer'
    plain = MODELS.build(merged_cfg.model)
    plain.load_state_dict(merged['state_dict'])
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        wanted, ours = model(x), plain.eval()(x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE
        # Without the updates they would be others.
        base = MODELS.build(cfg.model.backbone.module)
        base.init_weights()
        others = model.head(base.eval()(x))
    assert relative_difference(others, wanted) > 100 * RELATIVE_TOLERANCE


def test_nothing_given_is_changed(trained):
    cfg, model = trained
    before = copy.deepcopy(dict(model.named_parameters()))
    old_cfg = copy.deepcopy(cfg)
    merge_lora(cfg, checkpoint_of(model))
    for name, param in model.named_parameters():
        assert torch.equal(param, before[name])
    assert cfg.to_dict() == old_cfg.to_dict()


def test_the_result_describes_its_tower_and_exports(trained):
    cfg, model = trained
    _, merged = merge_lora(cfg, checkpoint_of(model))
    meta = merged['meta']
    assert meta['clip']['source']['name'] == 'tiny'
    assert meta['dataset_meta'] == dict(classes=('a', 'b', 'c'))
    assert meta['epoch'] == 3
    exported = export_checkpoint(merged, 'timm')
    assert 'head.weight' in exported.state_dict
    tower = MODELS.build(cfg.model.backbone.module)
    PretrainedCLIP('merged').load(merged, tower)
    for use in (
        lambda checkpoint: export_checkpoint(checkpoint, 'timm'),
        lambda checkpoint: PretrainedCLIP('unmerged').load(checkpoint, tower),
    ):
        with pytest.raises(CheckpointError, match=r'LoRA .*mmclip merge-lora'):
            use(checkpoint_of(model))


def test_a_checkpoint_that_does_not_fit_is_refused(trained):
    cfg, model = trained
    checkpoint = checkpoint_of(model)
    del checkpoint['state_dict']['head.fc.bias']
    with pytest.raises(CheckpointError, match=r'head\.fc\.bias'):
        merge_lora(cfg, checkpoint)
