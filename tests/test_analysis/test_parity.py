"""Comparing files of weights with open_clip's and timm's own models."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from mmclip.analysis.parity import compare_with_library, make_twins
from mmclip.checkpoint import (
    CheckpointError,
    convert_source,
    write_checkpoint,
)
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_checkpoint.conftest import shrink, shrink_timm


def test_the_tag_of_a_local_file_decides_about_the_activation(
    tmp_path, monkeypatch
):
    """ViT-B-32 is QuickGELU with some tags, and GELU with others."""
    shrink(monkeypatch, 'ViT-B-32')
    reference, _ = make_twins('ViT-B-32')
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    source = str(tmp_path / 'source.safetensors')
    save_file(weights, source)
    checkpoint, _ = convert_source('ViT-B-32', source, 'openai')
    converted = str(tmp_path / 'converted.pth')
    write_checkpoint(checkpoint, converted)
    arguments = (converted, 'ViT-B-32', source)
    with pytest.raises(CheckpointError, match='Pass --tag'):
        compare_with_library(*arguments)
    difference = compare_with_library(*arguments, 'openai')
    assert difference <= RELATIVE_TOLERANCE
    assert compare_with_library(*arguments, 'none') > RELATIVE_TOLERANCE


def test_weights_of_another_model_are_refused(tmp_path):
    path = str(tmp_path / 'x.safetensors')
    save_file({'visual.proj': torch.zeros(2, 3)}, path)
    with pytest.raises(CheckpointError, match='does not load into ViT-S-32'):
        compare_with_library(path, 'ViT-S-32', path)


@pytest.mark.parametrize('name', ['ViT-S-32', 'vit_base_patch32_clip_224'])
def test_none_is_no_tag(name):
    with pytest.raises(CheckpointError, match=f' has no .*{name}'):
        compare_with_library('x.pth', name, 'none')


def test_a_model_config_of_ones_own(tiny_model, tmp_path):
    path = str(tmp_path / 'x.safetensors')
    save_file(tiny_model.model.state_dict(), path)
    difference = compare_with_library(path, str(tiny_model.config), path)
    assert difference <= RELATIVE_TOLERANCE


@pytest.mark.parametrize(
    ('name', 'tag'),
    [
        ('vit_pe_spatial_base_patch16_512', 'fb'),
        ('vit_pe_core_base_patch16_224', 'fb'),  # with a projection
        ('eva_large_patch14_336', 'in22k_ft_in1k'),  # and with classifiers
        ('vit_so400m_patch14_siglip_378', 'webli_ft_in1k'),
    ],
)
def test_models_of_timm(tmp_path, monkeypatch, name, tag):
    shrink_timm(monkeypatch)
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = timm.create_model(f'{name}.{tag}')
        paths.append(str(tmp_path / f'{seed}.safetensors'))
        save_file(model.state_dict(), paths[-1])
    converted = str(tmp_path / 'x.pth')
    write_checkpoint(convert_source(name, paths[0], tag)[0], converted)
    for ours in (converted, paths[0]):
        difference = compare_with_library(ours, name, paths[0], tag)
        assert difference <= RELATIVE_TOLERANCE
    assert compare_with_library(converted, name, paths[1], tag) > 0.1


def test_folders_of_transformers_are_refused(tmp_path):
    config = tmp_path / 'config.json'
    config.write_text('{"model_type": "clip"}')
    path = str(tmp_path / 'x.safetensors')
    save_file(dict(a=torch.zeros(1)), path)
    with pytest.raises(CheckpointError, match='is from transformers'):
        compare_with_library(path, str(config), path)
