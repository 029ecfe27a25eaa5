"""What is found out about every kind of file."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from mmclip.analysis.parity import make_twins
from mmclip.checkpoint import convert_source, write_checkpoint
from mmclip.checkpoint.towers.export import export_checkpoint
from mmclip.checkpoint.towers.inspect import inspect_weights, why_not
from tests.test_checkpoint.conftest import TINY_BACKBONE, shrink

BACKBONE = TINY_BACKBONE | dict(img_size=48)


@pytest.fixture
def files(converted, tmp_path):
    """One tower in every project's names."""
    checkpoint, source = converted
    save_file(torch.load(source), tmp_path / 'open_clip.safetensors')
    write_checkpoint(checkpoint, tmp_path / 'mmpretrain.pth')
    for to in ('timm', 'hf'):
        exported = export_checkpoint(checkpoint, to)
        folder = tmp_path / to if exported.files else tmp_path
        folder.mkdir(exist_ok=True)
        name = 'model' if exported.files else to
        save_file(exported.state_dict, folder / f'{name}.safetensors')
        for file, content in exported.files.items():
            (folder / file).write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    """Some models with small towers."""
    resnet = dict(layers=[1, 1, 1, 1], width=8, image_size=32)
    shrink(monkeypatch, 'RN50', 'RN50-quickgelu', **resnet)
    shrink(monkeypatch, 'ViT-B-16-plus-240', 'ViT-S-32')


def save_tower(name, path, **changes):
    """Random weights as open_clip names them."""
    reference, _ = make_twins(name)
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    save_file(weights | changes, path)
    return path


@pytest.mark.parametrize(
    ('file', 'names'),
    [
        ('open_clip.safetensors', 'open_clip'),
        ('mmpretrain.pth', 'mmpretrain'),
        ('timm.safetensors', 'timm'),
        ('hf', 'Hugging Face CLIP'),
        ('hf/model.safetensors', 'Hugging Face CLIP'),
    ],
)
def test_names_and_shapes(files, file, names):
    found = inspect_weights(files / file)
    assert found.dialect == names
    assert found.shapes == dict(
        width=32,
        depth=2,
        mlp_width=128,
        patch_size=8,
        img_size=32,
        proj_dim=24,
        class_token=True,
        pre_norm=True,
        attention_pool=False,
    )
    act = found.meta and found.meta['backbone']['act']
    described = file in ('mmpretrain.pth', 'hf')
    assert act == ('quick_gelu' if described else None)


def test_open_clips_names_and_activations(small, tmp_path):
    path = save_tower('ViT-B-16-plus-240', tmp_path / 'x.safetensors')
    found = inspect_weights(path)
    assert found.names == ['ViT-B-16-plus-240']
    assert found.activations['gelu'][0] == 'ViT-B-16-plus-240/laion400m_e31'


def test_a_file_with_nan_has_its_shapes_and_names_still(small, tmp_path):
    nan = {'visual.proj': torch.full((64, 384), float('nan'))}
    path = save_tower('ViT-S-32', tmp_path / 'x.safetensors', **nan)
    found = inspect_weights(path)
    assert found.problem.startswith('1 tensors have NaN')
    assert found.shapes['width'] == 64
    assert found.names == ['ViT-S-32']


@pytest.mark.parametrize('converted', [False, True])
def test_towers_that_open_clip_alone_has(small, tmp_path, converted):
    path = save_tower('RN50', tmp_path / 'x.safetensors')
    if converted:
        checkpoint, _ = convert_source('RN50', str(path), 'openai')
        write_checkpoint(checkpoint, path)
    found = inspect_weights(path)
    assert found.dialect == 'open_clip, of a tower that only it can build'
    assert found.names == ['RN50', 'RN50-quickgelu']
    backbone = dict(type='mmclip.OpenCLIPVisionTower', model='RN50')
    assert why_not(found, path, backbone) is None
    assert why_not(found, path, backbone | dict(model='RN101'))


@pytest.mark.slow
def test_trunks_of_timm_that_are_their_own_module(tmp_path):
    path = save_tower('vit_medium_patch16_gap_256', tmp_path / 'x.safetensors')
    assert inspect_weights(path).names == ['vit_medium_patch16_gap_256']


def test_what_would_not_load_and_why(files):
    file = files / 'mmpretrain.pth'
    found = inspect_weights(file)
    assert why_not(found, file, BACKBONE) is None
    assert "act: checkpoint 'quick_gelu', here 'gelu'" in why_not(
        found, file, BACKBONE | dict(act='gelu')
    )
    assert '; got ResNet.' in why_not(found, file, dict(type='ResNet'))


def test_all_that_would_not_load_is_listed(files):
    file = files / 'open_clip.safetensors'
    arch = BACKBONE['arch'] | dict(mlp_width=64)
    problem = why_not(inspect_weights(file), file, BACKBONE | dict(arch=arch))
    keys = [
        f'layers.{i}.ffn.layers.{layer}'
        for i in range(2)
        for layer in ('0.0.weight', '0.0.bias', '1.weight')
    ]
    assert sorted(re.findall(r'shape: (\S+) is', problem)) == sorted(keys)


def test_a_folder_of_timm_has_a_config_of_another_kind(files):
    (files / 'hf' / 'config.json').write_text('{"architecture": "vit"}')
    assert inspect_weights(files / 'hf').meta is None
