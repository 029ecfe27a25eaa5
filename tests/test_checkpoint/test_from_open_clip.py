"""What open_clip's names, tags and configs say about a tower."""

import json

import open_clip
import pytest
import torch

from mmclip.checkpoint import CheckpointError, convert_open_clip
from mmclip.checkpoint.from_open_clip import find_tower
from mmclip.models import CLIPVisionTransformer
from tests.conftest import (
    RELATIVE_TOLERANCE,
    plain_names,
    relative_difference,
)

PAIRS = [
    (name, tag)
    for name in plain_names()
    for tag in open_clip.list_pretrained_tags_by_model(name)
]


def test_the_plain_part_of_the_zoo_is_covered():
    assert len(plain_names()) == 48
    assert len(PAIRS) == 90


@pytest.mark.parametrize(('name', 'tag'), PAIRS)
def test_every_tag_has_its_own_activation(name, tag):
    by_name = open_clip.get_model_config(name).get('quick_gelu', False)
    by_tag = open_clip.get_pretrained_cfg(name, tag).get('quick_gelu', False)
    quick = find_tower(name, tag).arch['act'] == 'quick_gelu'
    assert quick == (by_name or by_tag)


def test_the_openai_trap():
    assert find_tower('ViT-L-14-336', None).arch['act'] == 'gelu'
    assert find_tower('ViT-L-14-336', 'openai').arch['act'] == 'quick_gelu'
    assert find_tower('ViT-L-14-336', 'OpenAI').arch['act'] == 'quick_gelu'


@pytest.mark.parametrize(('name', 'tag'), PAIRS)
def test_every_tag_has_its_own_preprocessing(name, tag):
    ours = find_tower(name, tag).preprocess
    wanted = open_clip.get_pretrained_cfg(name, tag)
    assert ours['interpolation'] == wanted['interpolation']
    assert ours['resize_mode'] == wanted['resize_mode']
    assert ours['mean'] == list(wanted['mean'])
    assert ours['std'] == list(wanted['std'])


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('RN50', 'layers='),
        ('ViT-B-16-SigLIP', 'timm_model_name='),
        ('ViT-H-14-CLIPA', 'no_ln_pre=True'),
        ('coca_ViT-B-32', 'attentional_pool=True'),
    ],
)
def test_other_towers_are_refused_by_what_sets_them_apart(name, reason):
    with pytest.raises(CheckpointError, match=reason):
        find_tower(name, None)


def test_unknown_names_and_tags_get_the_nearest():
    with pytest.raises(CheckpointError, match='ViT-L-14-336'):
        find_tower('ViT-L14-336', 'openai')
    with pytest.raises(CheckpointError, match='laion2b_s32b_b82k'):
        find_tower('ViT-L-14', 'laion2b_s32b')
    with pytest.raises(CheckpointError, match='there are openai'):
        find_tower('ViT-L-14-336', 'xyz')
    with pytest.raises(CheckpointError, match='no pretrained weights'):
        find_tower('ViT-S-32', 'openai')


def test_a_model_config_of_ones_own(tiny_model, tmp_path):
    path = tmp_path / 'epoch_1.pt'
    torch.save(dict(state_dict=tiny_model.model.state_dict()), path)
    checkpoint, _ = convert_open_clip(str(tiny_model.config), str(path))
    meta = checkpoint['meta']['clip']
    assert meta['arch'] == dict(
        width=32,
        depth=2,
        num_heads=2,
        mlp_width=128,
        patch_size=8,
        act='quick_gelu',
        norm_eps=1e-5,
    )
    assert meta['source'] == dict(
        library='open_clip', name='tiny.json', tag=None, file='epoch_1.pt'
    )
    assert_same_features(checkpoint, tiny_model.model)


def test_preprocessing_of_open_clips_own_folders(tiny_model, tmp_path):
    config = tmp_path / 'open_clip_config.json'
    preprocess = dict(mean=[0.5] * 3, std=[0.5] * 3, resize_mode='squash')
    model_cfg = json.loads(tiny_model.config.read_text())
    config.write_text(
        json.dumps(dict(model_cfg=model_cfg, preprocess_cfg=preprocess))
    )
    tower = find_tower(str(config), None)
    assert tower.preprocess == preprocess | dict(interpolation='bicubic')


def test_a_file_that_is_another_model_is_refused(tiny_model, tmp_path):
    path = tmp_path / 'tiny.pt'
    torch.save(tiny_model.model.state_dict(), path)
    with pytest.raises(CheckpointError) as error:
        convert_open_clip('ViT-B-32', str(path), 'openai')
    assert 'is no ViT-B-32' in str(error.value)
    assert 'missing: layers.11.ffn.layers.1.bias' in str(error.value)
    assert 'shape: cls_token is (1, 1, 32), wanted (1, 1, 768)' in str(
        error.value
    )


def test_a_local_file_needs_a_tag_where_the_tags_differ(tiny_model, tmp_path):
    path = tmp_path / 'x.pt'
    torch.save(tiny_model.model.state_dict(), path)
    with pytest.raises(CheckpointError, match=r'pass --tag(.|\n)*quick_gelu'):
        convert_open_clip('ViT-L-14-336', str(path))
    with pytest.raises(CheckpointError, match='is no ViT-B-16-plus-240'):
        convert_open_clip('ViT-B-16-plus-240', str(path))


def test_a_tag_beside_a_tag_is_refused():
    with pytest.raises(CheckpointError, match='is for local files'):
        convert_open_clip('ViT-L-14-336', 'openai', 'openai')


def test_configs_that_are_none_are_refused(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text('{"a": 1}')
    with pytest.raises(CheckpointError, match='no open_clip model config'):
        find_tower(str(path), None)
    path.write_text('{')
    with pytest.raises(CheckpointError, match='no JSON file'):
        find_tower(str(path), None)


def assert_same_features(checkpoint, model) -> None:
    meta = checkpoint['meta']['clip']
    arch = dict(meta['arch'])
    backbone = CLIPVisionTransformer(
        arch={k: arch.pop(k) for k in list(arch)[:4]},
        img_size=meta['img_size'],
        proj_dim=meta['proj_dim'],
        **arch,
    )
    backbone.load_state_dict(
        {
            key.removeprefix('backbone.'): tensor
            for key, tensor in checkpoint['state_dict'].items()
        }
    )
    x = torch.randn(2, 3, meta['img_size'], meta['img_size'])
    with torch.no_grad():
        ours, wanted = backbone.eval()(x)[0], model.encode_image(x)
    assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE
