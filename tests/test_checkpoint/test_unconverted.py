"""Weights with other names than ours: the step to ours is said."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from safetensors.torch import save_file

from mmclip.analysis.parity import make_twins
from mmclip.checkpoint import CheckpointError, convert_source
from mmclip.checkpoint.towers.convert import export
from mmclip.checkpoint.towers.dialects import HF_CLIP, OPEN_CLIP, TIMM
from mmclip.checkpoint.unconverted import CONVERTER
from mmclip.engine import StrictLoadHook
from tests.test_checkpoint.conftest import TINY_BACKBONE, shrink

BACKBONE = TINY_BACKBONE | dict(proj_dim=24)


def build(path, **changes):
    init_default_scope('mmpretrain')
    init_cfg = dict(type='mmclip.PretrainedCLIP', checkpoint=str(path))
    backbone = MODELS.build(BACKBONE | dict(init_cfg=init_cfg) | changes)
    backbone.init_weights()
    return backbone


@pytest.fixture
def ours(converted):
    """A converted tiny model without its description."""
    return converted[0]['state_dict']


def in_names_of(dialect, ours, prefix):
    tower = {key.removeprefix('backbone.'): ours[key] for key in ours}
    if dialect is TIMM:
        tower['proj_bias'] = torch.zeros(24)
    return export(tower, dialect, prefix)


@pytest.mark.parametrize(
    ('dialect', 'prefix'),
    [
        (OPEN_CLIP, 'visual.'),
        (OPEN_CLIP, ''),
        (TIMM, ''),
        (TIMM, 'visual.trunk.'),
        (HF_CLIP, 'vision_model.'),
    ],
)
@pytest.mark.parametrize('wrapped', [False, True])
def test_another_projects_names_are_told_and_the_command(
    ours, tmp_path, dialect, prefix, wrapped
):
    weights = in_names_of(dialect, ours, prefix)
    path = tmp_path / 'x.pth'
    torch.save(dict(state_dict=weights) if wrapped else weights, path)
    wanted = (
        f'{path} is not converted yet: it has the names of {dialect.name}. '
        f'Run {CONVERTER} NAME {path} OUT.pth --tag TAG'
    )
    with pytest.raises(CheckpointError) as error:
        build(path)
    assert str(error.value).startswith(wanted)


def test_the_names_of_open_clips_models_with_such_a_tower_are_told(
    tmp_path, monkeypatch
):
    shrink(monkeypatch, 'ViT-S-32')
    reference, _ = make_twins('ViT-S-32')
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    path = tmp_path / 'x.safetensors'
    save_file(weights, path)
    with pytest.raises(CheckpointError, match='where NAME is ViT-S-32, and'):
        build(path)


def test_the_command_works_as_it_stands_where_a_config_lies_beside(
    tiny_model, ours, tmp_path
):
    tiny_model.config.rename(tmp_path / 'open_clip_config.json')
    weights = in_names_of(OPEN_CLIP, ours, 'visual.')
    for name, message in (
        ('epoch_3.pt', f'{tmp_path}/open_clip_config.json {tmp_path}/epoch_3'),
        ('model.safetensors', f"Use 'local-dir:{tmp_path}' instead"),
    ):
        save = save_file if 'safe' in name else torch.save
        save(weights, tmp_path / name)
        with pytest.raises(CheckpointError, match=message):
            build(tmp_path / name)


def test_open_clips_own_towers_too(tmp_path):
    weights = {'visual.layer1.0.conv1.weight': torch.zeros(3, 3)}
    torch.save(weights, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='has the names of open_clip'):
        build(tmp_path / 'x.pth')


@pytest.mark.parametrize(
    'wrapped',
    [
        'module.backbone.',
        '_orig_mod.backbone.',
        'module._orig_mod.backbone.',
        'backbone._orig_mod.',  # it alone was compiled
    ],
)
def test_what_wrappers_of_torch_put_before_names_is_left_out(
    ours, tmp_path, wrapped
):
    path = tmp_path / 'x.pth'
    weights = {k.replace('backbone.', wrapped): v for k, v in ours.items()}
    torch.save(weights, path)
    assert torch.equal(build(path).proj, ours['backbone.proj'])


@pytest.mark.parametrize(
    'prefix', ['model.', 'clip.', 'clip_model.', 'image_encoder.model.']
)
@pytest.mark.parametrize(
    ('dialect', 'whose'),
    [
        (None, "mmpretrain's"),
        (OPEN_CLIP, "open_clip's"),
        (HF_CLIP, "Hugging Face CLIP's"),
    ],
)
def test_any_other_prefix_is_named_and_what_removes_it(
    ours, tmp_path, monkeypatch, prefix, dialect, whose
):
    weights = ours if dialect is None else in_names_of(dialect, ours, '')
    before = {prefix + key: tensor for key, tensor in weights.items()}
    torch.save(before | {'loss.scale': torch.ones(())}, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError) as error:
        build(tmp_path / 'x.pth')
    message = str(error.value)
    assert f"it has {whose} names with the prefix '{prefix}'. S" in message
    # The advice is Python that does it.
    monkeypatch.chdir(tmp_path)
    exec(message[message.index('torch.save(') :].rstrip('.'), dict(
        torch=torch, weights=before
    ))  # fmt: skip
    assert torch.load('OUT.pth').keys() == weights.keys()
    with pytest.raises(CheckpointError, match=f"the prefix '{prefix}'"):
        convert_source('ViT-B-32', str(tmp_path / 'x.pth'), 'openai')


@pytest.mark.parametrize('config', ['config.json', 'open_clip_config.json'])
@pytest.mark.parametrize('name', ['', '{}', 'model.safetensors.index.json'])
def test_a_folder_is_to_be_written_as_one(tmp_path, config, name):
    path = tmp_path / name.format(config)
    with pytest.raises(CheckpointError, match=f"use 'local-dir:{tmp_path}'"):
        build(path)


def test_our_own_weights_of_another_size_have_other_keys_only(ours, tmp_path):
    torch.save(ours, tmp_path / 'x.pth')
    arch = BACKBONE['arch'] | dict(depth=12)
    with pytest.raises(CheckpointError, match='120 keys do not fit'):
        build(tmp_path / 'x.pth', arch=arch)


def test_mmengine_tells_it_too(ours, tmp_path):
    """Its initializer, and what ``load_from`` and tools/test.py load."""
    path, weights = tmp_path / 'x.pth', in_names_of(OPEN_CLIP, ours, 'visual.')
    torch.save(weights, path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    with pytest.raises(CheckpointError, match='has the names of open_clip'):
        build(path, init_cfg=init_cfg)
    runner = Runner.__new__(Runner)
    runner._hooks, runner._resume, runner._load_from = [], False, 'x.pth'
    runner._train_loop = None
    runner.model = MODELS.build(BACKBONE)
    with pytest.raises(CheckpointError, match='has the names of open_clip'):
        StrictLoadHook().after_load_checkpoint(runner, weights)
