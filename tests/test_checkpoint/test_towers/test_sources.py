"""Every source of the same weights gives the same outputs."""

import json
import subprocess
import sys

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from mmclip.analysis.parity import make_twins, randomize, relative_difference
from mmclip.checkpoint import (
    CheckpointError,
    convert_source,
    read_checkpoint,
)
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.checkpoint.towers.sources import convert_folder
from mmclip.checkpoint.towers.timm import find_timm_tower
from mmclip.checkpoint.towers.tower import CLIP
from mmclip.models import OpenCLIPVisionTower
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_checkpoint.conftest import SMALL, feature, randomized

transformers = pytest.importorskip('transformers')
CLIP_TAGS = [
    name
    for name in timm.list_pretrained('vit_*')
    if '_clip_' in name.partition('.')[0]
]


class TestTimm:
    """Files of timm, with the meaning of their heads."""

    @pytest.mark.parametrize(
        'name',
        [
            'vit_base_patch32_clip_224',
            'vit_base_patch32_clip_quickgelu_224',
            'vit_base_patch16_siglip_224',
            'vit_base_patch16_siglip_gap_224',
            'vit_base_patch32_siglip_256',
        ],
    )
    def test_towers(self, tmp_path, monkeypatch, name):
        shallow(monkeypatch)
        model = timm.create_model(name)
        randomize(model)
        if model.num_classes:
            nn.init.zeros_(model.head.bias)
        save_file(model.state_dict(), tmp_path / 'x.safetensors')
        checkpoint, conversion = convert_source(
            name, str(tmp_path / 'x.safetensors'), 'none'
        )
        assert conversion.dialect.name == 'timm'
        size = checkpoint['meta']['clip']['img_size']
        x = torch.randn(1, 3, size, size)
        with torch.no_grad():
            wanted = model.eval()(x)
        ours = feature(checkpoint, x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    def test_a_classifier(self, tmp_path, monkeypatch):
        shallow(monkeypatch)
        name = 'vit_base_patch32_clip_224'
        model = timm.create_model(name, num_classes=1000).eval()
        randomize(model)
        save_file(model.state_dict(), tmp_path / 'x.safetensors')
        for tag in ('none', 'laion2b_ft_in12k_in1k'):
            checkpoint, _ = convert_source(
                name, str(tmp_path / 'x.safetensors'), tag
            )
            assert 'proj_dim' not in checkpoint['meta']['clip']['backbone']
            x = torch.randn(1, 3, 224, 224)
            head = nn.Linear(768, 1000)
            head.load_state_dict(
                {
                    key: checkpoint['state_dict'][f'head.fc.{key}']
                    for key in ('weight', 'bias')
                }
            )
            with torch.no_grad():
                ours, wanted = head(feature(checkpoint, x)), model(x)
            assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    def test_a_projection_with_a_bias_is_no_plain_clip(
        self, tmp_path, monkeypatch
    ):
        shallow(monkeypatch)
        model = timm.create_model('vit_base_patch32_clip_224.openai')
        nn.init.ones_(model.head.bias)
        save_file(model.state_dict(), tmp_path / 'x.safetensors')
        with pytest.raises(CheckpointError, match='projection has a bias'):
            convert_source(
                'vit_base_patch32_clip_224',
                str(tmp_path / 'x.safetensors'),
                'laion2b',
            )

    def test_gelu_names_of_quickgelu_weights_are_refused(self):
        with pytest.raises(
            CheckpointError, match='use vit_large_patch14_clip_quickgelu_336'
        ):
            find_timm_tower('vit_large_patch14_clip_336', 'openai')

    @pytest.mark.parametrize('name', CLIP_TAGS)
    def test_every_clip_tag_is_known(self, name):
        base, _, tag = name.partition('.')
        try:
            tower = find_timm_tower(base, tag)
        except CheckpointError as error:
            assert 'trained with QuickGELU' in str(error)
            return
        num_classes = timm.get_pretrained_cfg(name).num_classes
        assert tower.backbone['type'] == CLIP
        assert tower.has_classifier == (num_classes in (1000, 11821))
        if not tower.has_classifier:
            assert tower.backbone['proj_dim'] == num_classes

    def test_a_file_without_tag_is_refused_where_activations_differ(
        self, tmp_path
    ):
        path = tmp_path / 'x.safetensors'
        save_file(dict(a=torch.zeros(1)), path)
        with pytest.raises(CheckpointError, match='pass --tag'):
            convert_source('vit_base_patch32_clip_224', str(path))

    def test_a_file_without_tag_is_refused_where_pixels_differ(self, tmp_path):
        path = tmp_path / 'x.safetensors'
        save_file(dict(a=torch.zeros(1)), path)
        with pytest.raises(CheckpointError, match='differ in preprocessing'):
            convert_source('vit_base_patch32_clip_384', str(path))
        with pytest.raises(CheckpointError, match='are those of no CLIP'):
            convert_source('vit_base_patch32_clip_384', str(path), 'none')

    def test_unknown_tags_get_the_nearest(self):
        with pytest.raises(CheckpointError, match='there are laion2b'):
            find_timm_tower('vit_base_patch32_clip_224', 'laion2')
        with pytest.raises(CheckpointError, match='is not a CLIP or SigLIP'):
            find_timm_tower('vit_base_patch16_224', None)


class TestTheSameWeightsInEveryFormat:
    """One open_clip name, files in every project's names."""

    @pytest.mark.parametrize('to', ['open_clip', 'timm', 'hf', 'mmpretrain'])
    def test_dialects_are_recognised(self, tiny_model, tmp_path, to):
        from mmclip.checkpoint.towers.export import export_checkpoint

        source = tmp_path / 'source.pt'
        torch.save(tiny_model.model.state_dict(), source)
        checkpoint, _ = convert_source(str(tiny_model.config), str(source))
        path = tmp_path / 'x.safetensors'
        if to == 'mmpretrain':
            write_checkpoint(dict(state_dict=checkpoint['state_dict']), path)
        else:
            save_file(export_checkpoint(checkpoint, to).state_dict, path)
        again, conversion = convert_source(str(tiny_model.config), str(path))
        names = dict(hf='Hugging Face CLIP')
        assert conversion.dialect.name == names.get(to, to)
        assert same_tensors(again, checkpoint)


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
        with pytest.raises(CheckpointError, match=r'of shape \[\(50, 32\)\]'):
            convert_folder(tmp_path)

    def test_half_renamed(self, convert_file):
        def change(weights):
            weights['layers.0.ln1.weight'] = weights.pop(
                'visual.transformer.resblocks.0.ln_1.weight'
            )

        with pytest.raises(CheckpointError, match=r'layers\.0\.ln1\.weight'):
            convert_file(change)

    def test_a_missing_key(self, convert_file):
        def change(weights):
            del weights['visual.proj']

        with pytest.raises(CheckpointError, match=r'missing: proj'):
            convert_file(change)

    def test_an_extra_key(self, convert_file):
        def change(weights):
            weights['visual.adapter.weight'] = torch.zeros(2)

        with pytest.raises(CheckpointError, match=r'visual\.adapter\.weight'):
            convert_file(change)

    def test_an_extra_key_in_the_blocks_of_a_tower_alone(self, convert_file):
        def change(weights):
            tower = {
                key.removeprefix('visual.'): tensor
                for key, tensor in weights.items()
                if key.startswith('visual.')
            }
            key = 'transformer.resblocks.0.attn.q_norm.weight'
            return tower | {key: torch.zeros(2)}

        with pytest.raises(CheckpointError, match=r'attn\.q_norm\.weight'):
            convert_file(change)

    def test_no_vision_transformer_at_all(self, convert_file):
        with pytest.raises(CheckpointError, match='those of no CLIP'):
            convert_file(lambda weights: dict(a=torch.zeros(1)))

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision(self, convert_file, dtype):
        def change(weights):
            return {k: v.to(dtype) for k, v in weights.items()}

        assert dtypes(convert_file(change)) == {torch.float32}
        name = str(dtype).removeprefix('torch.')
        assert dtypes(convert_file(change, dtype=name)) == {dtype}

    def test_a_folder_without_config(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='neither an open_clip'):
            convert_folder(tmp_path)


def test_a_safetensors_output_keeps_the_metadata(tiny_model, tmp_path):
    torch.save(tiny_model.model.state_dict(), tmp_path / 'x.pt')
    checkpoint, _ = convert_source(
        str(tiny_model.config), str(tmp_path / 'x.pt')
    )
    write_checkpoint(checkpoint, tmp_path / 'out.safetensors')
    again = read_checkpoint(tmp_path / 'out.safetensors')
    assert again['meta'] == checkpoint['meta']
    assert same_tensors(again, checkpoint)


def test_open_clips_folders(tiny_model, tmp_path):
    cfg = json.loads(tiny_model.config.read_text())
    preprocess = dict(mean=[0.5] * 3, std=[0.5] * 3)
    (tmp_path / 'open_clip_config.json').write_text(
        json.dumps(dict(model_cfg=cfg, preprocess_cfg=preprocess))
    )
    save_file(
        tiny_model.model.state_dict(), tmp_path / 'open_clip_model.safetensors'
    )
    model = open_clip.create_model(f'local-dir:{tmp_path}').eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = model.encode_image(x)
    checkpoint = convert_folder(tmp_path)
    ours = feature(checkpoint, x)
    assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE
    assert checkpoint['meta']['clip']['source']['name'] == tmp_path.name


def shallow(monkeypatch) -> None:
    """Two blocks of timm's towers, for memory and time."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, 'create_model', lambda *a, **k: create(*a, depth=2, **k)
    )


def same_tensors(one: dict, other: dict) -> bool:
    one, other = one['state_dict'], other['state_dict']
    return set(one) == set(other) and all(
        torch.equal(one[key], other[key]) for key in one
    )


def dtypes(checkpoint: dict) -> set:
    return {tensor.dtype for tensor in checkpoint['state_dict'].values()}


def test_names_that_need_transformers_convert_without_it(tmp_path):
    """And no text tower is ever built."""
    reference, _ = make_twins('roberta-ViT-B-32')
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    save_file(weights, tmp_path / 'x.safetensors')
    code = f"""
import sys
sys.modules['transformers'] = None  # importing it is an ImportError
import open_clip
from mmclip.checkpoint import convert_source

def fail(*args, **kwargs):
    raise AssertionError('a text tower is built')

from mmclip.checkpoint.towers.open_clip import find_tower
open_clip.model._build_text_tower = fail
for name in ('CLIP', 'CustomTextCLIP'):
    getattr(open_clip, name).__init__ = fail
for name in open_clip.list_models():
    find_tower(name, None)
for name in ('roberta-ViT-B-32', 'xlm-roberta-base-ViT-B-32'):
    checkpoint, _ = convert_source(
        name, {str(tmp_path / 'x.safetensors')!r}, 'none')
    print(len(checkpoint['state_dict']))
"""
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
    )
    assert result.stdout.split()[-2:] == ['152', '152'], result.stderr


def test_towers_of_open_clip_itself_load_strictly(tmp_path):
    reference, _ = make_twins('RN50')
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    weights['logit_scale'] = torch.zeros(())
    save_file(weights, tmp_path / 'x.safetensors')
    checkpoint, conversion = convert_source(
        'RN50', str(tmp_path / 'x.safetensors'), 'openai'
    )
    assert conversion.left_out == {'contrastive head': ['logit_scale']}
    path = tmp_path / 'out.pth'
    write_checkpoint(checkpoint, path)
    init_cfg = dict(type='mmclip.PretrainedCLIP', checkpoint=str(path))
    tower = OpenCLIPVisionTower('RN50', init_cfg=init_cfg)
    tower.init_weights()
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(tower.eval()(x)[0], reference(x))
    with pytest.raises(CheckpointError, match="layers': \\[3, 4, 6, 3\\]"):
        OpenCLIPVisionTower('RN101', init_cfg=init_cfg).init_weights()
    del weights['visual.conv1.weight']
    save_file(weights, tmp_path / 'x.safetensors')
    with pytest.raises(
        CheckpointError, match=r'missing: tower\.conv1\.weight'
    ):
        convert_source('RN50', str(tmp_path / 'x.safetensors'), 'openai')
