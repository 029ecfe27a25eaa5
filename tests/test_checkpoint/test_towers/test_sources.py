"""Files and folders of any source: one clear sentence, or the result."""

import pytest
import torch
from safetensors.torch import save_file

from mmclip.checkpoint import (
    CheckpointError,
    convert_source,
    read_checkpoint,
    write_checkpoint,
)
from mmclip.checkpoint.towers.export import export_checkpoint
from mmclip.checkpoint.towers.sources import convert_folder
from tests.test_checkpoint.conftest import SMALL, randomized

transformers = pytest.importorskip('transformers')


@pytest.mark.parametrize('to', ['open_clip', 'timm', 'hf', 'mmpretrain'])
def test_names_of_every_project_are_recognised(
    converted, tiny_model, tmp_path, to
):
    """One open_clip name, files in every project's names."""
    path, weights = tmp_path / 'x.safetensors', converted[0]
    if to == 'mmpretrain':
        write_checkpoint(dict(state_dict=weights['state_dict']), path)
    else:
        save_file(export_checkpoint(weights, to).state_dict, path)
    again, conversion = convert_source(str(tiny_model.config), str(path))
    names = dict(hf='Hugging Face CLIP')
    assert conversion.dialect.name == names.get(to, to)
    assert same_tensors(again, weights)


class TestBadInput:
    """One clear sentence each, or the right result."""

    @pytest.fixture
    def convert_file(self, tiny_model, tmp_path):
        def _convert(change, **kwargs):
            weights = dict(tiny_model.model.state_dict())
            path = tmp_path / 'x.pt'
            torch.save(change(weights) or weights, path)
            return convert_source(str(tiny_model.config), str(path), **kwargs)[
                0
            ]

        return _convert

    def test_nan(self, convert_file):
        def change(weights):
            weights['visual.proj'] = torch.full((32, 24), float('nan'))

        with pytest.raises(CheckpointError, match=r'NaN.*: visual\.proj'):
            convert_file(change)

    def test_values_too_large_for_the_dtype(self, convert_file):
        def change(weights):
            weights['visual.proj'] = torch.full((32, 24), 1e5)

        assert convert_file(change)
        with pytest.raises(CheckpointError, match=r'for torch.float16: vis'):
            convert_file(change, dtype='float16')

    def test_tensors_that_are_not_what_their_names_say(self, tmp_path):
        cfg = transformers.SiglipVisionConfig(**SMALL)
        model = randomized(transformers.SiglipVisionModel(cfg))
        model.save_pretrained(tmp_path)
        weights = dict(model.state_dict())
        key = next(k for k in weights if k.endswith('in_proj_weight'))
        weights[key] = weights[key][:50].clone()
        save_file(weights, tmp_path / 'model.safetensors')
        with pytest.raises(CheckpointError, match=r'shapes \[\(50, 32\)\]'):
            convert_folder(tmp_path)

    @pytest.mark.parametrize(
        ('prefix', 'key'),
        [
            ('', 'layers.0.ln1.weight'),  # of another project
            ('', 'visual.adapter.weight'),
            ('visual.', 'transformer.resblocks.0.attn.q_norm.weight'),
        ],
    )
    def test_an_extra_key(self, convert_file, prefix, key):
        def change(weights):
            tower = {
                name.removeprefix(prefix): tensor
                for name, tensor in weights.items()
                if name.startswith(prefix)
            }
            return tower | {key: torch.zeros(2)}

        with pytest.raises(CheckpointError, match=key):
            convert_file(change)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision(self, convert_file, dtype):
        def change(weights):
            return {k: v.to(dtype) for k, v in weights.items()}

        assert dtypes(convert_file(change)) == {torch.float32}
        name = str(dtype).removeprefix('torch.')
        assert dtypes(convert_file(change, dtype=name)) == {dtype}

    def test_a_folder_is_not_a_name(self, tmp_path):
        with pytest.raises(CheckpointError, match=r'is a folder\. Give'):
            convert_source(str(tmp_path), 'weights.bin')

    def test_a_folder_without_config(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='neither an open_clip'):
            convert_folder(tmp_path)


def test_a_safetensors_output_keeps_the_metadata(converted, tmp_path):
    checkpoint, _ = converted
    write_checkpoint(checkpoint, tmp_path / 'out.safetensors')
    again = read_checkpoint(tmp_path / 'out.safetensors')
    assert again['meta'] == checkpoint['meta']
    assert same_tensors(again, checkpoint)


def same_tensors(one: dict, other: dict) -> bool:
    one, other = one['state_dict'], other['state_dict']
    return set(one) == set(other) and all(
        torch.equal(one[key], other[key]) for key in one
    )


def dtypes(checkpoint: dict) -> set:
    return {tensor.dtype for tensor in checkpoint['state_dict'].values()}
