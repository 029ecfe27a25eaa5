"""Comparing files of weights with open_clip's own models."""

import pytest
import torch
from safetensors.torch import save_file

from mmclip.analysis.parity import compare_with_open_clip, make_twins
from mmclip.checkpoint import (
    CheckpointError,
    convert_source,
    write_checkpoint,
)
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_checkpoint.conftest import shrink


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
        compare_with_open_clip(*arguments)
    difference = compare_with_open_clip(*arguments, 'openai')
    assert difference <= RELATIVE_TOLERANCE
    assert compare_with_open_clip(*arguments, 'none') > RELATIVE_TOLERANCE


def test_weights_of_another_model_are_refused(tmp_path):
    path = str(tmp_path / 'x.safetensors')
    save_file({'visual.proj': torch.zeros(2, 3)}, path)
    with pytest.raises(CheckpointError, match='does not load into ViT-S-32'):
        compare_with_open_clip(path, 'ViT-S-32', path)


@pytest.mark.parametrize('name', ['ViT-S-32', 'vit_base_patch32_clip_224'])
def test_none_is_no_tag(name):
    with pytest.raises(CheckpointError, match=f'open_clip has no .*{name}'):
        compare_with_open_clip('x.pth', name, 'none')


def test_a_model_config_of_ones_own(tiny_model, tmp_path):
    path = str(tmp_path / 'x.safetensors')
    save_file(tiny_model.model.state_dict(), path)
    difference = compare_with_open_clip(path, str(tiny_model.config), path)
    assert difference <= RELATIVE_TOLERANCE
