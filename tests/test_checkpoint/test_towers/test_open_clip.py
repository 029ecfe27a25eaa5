"""What open_clip's names, tags and configs say about a tower."""

import json

import open_clip
import pytest
import timm
import torch

from mmclip.analysis.parity import relative_difference
from mmclip.checkpoint import CheckpointError, convert_source
from mmclip.checkpoint.towers.open_clip import find_tower, open_clip_source
from mmclip.checkpoint.towers.tower import CLIP, OTHER, SIGLIP, build_backbone
from tests.conftest import RELATIVE_TOLERANCE, names_of

PAIRS = open_clip.list_pretrained()


@pytest.mark.parametrize(
    ('backbone', 'num_names', 'num_pairs'),
    [(CLIP, 57, 102), (SIGLIP, 28, 30), (OTHER, 59, 64)],
)
def test_the_whole_zoo_is_covered(backbone, num_names, num_pairs):
    names = names_of(backbone)
    assert len(names) == num_names
    assert len([pair for pair in PAIRS if pair[0] in names]) == num_pairs


@pytest.mark.parametrize(('name', 'tag'), PAIRS)
def test_every_tag_has_its_own_activation(name, tag):
    by_name = open_clip.get_model_config(name).get('quick_gelu', False)
    by_tag = open_clip.get_pretrained_cfg(name, tag).get('quick_gelu', False)
    backbone = find_tower(name, tag).backbone
    native = (
        'timm_model_name' not in open_clip.get_model_config(name)['vision_cfg']
    )
    if backbone['type'] == CLIP and native:
        assert (backbone['act'] == 'quick_gelu') == (by_name or by_tag)
    else:  # timm's towers and ResNets follow neither
        assert backbone.get('act') != 'quick_gelu'


def test_the_openai_trap():
    assert find_tower('ViT-L-14-336', None).backbone['act'] == 'gelu'
    assert find_tower('ViT-L-14-336', 'openai').backbone['act'] == 'quick_gelu'
    assert find_tower('ViT-L-14-336', 'OpenAI').backbone['act'] == 'quick_gelu'


@pytest.mark.parametrize(('name', 'tag'), PAIRS)
def test_every_tag_has_its_own_preprocessing(name, tag):
    ours = find_tower(name, tag).preprocess
    wanted = open_clip.get_pretrained_cfg(name, tag)
    assert ours['interpolation'] == wanted['interpolation']
    assert ours['resize_mode'] == wanted['resize_mode']
    assert ours['mean'] == list(wanted['mean'])
    assert ours['std'] == list(wanted['std'])


def test_unknown_names_and_tags_get_the_nearest():
    with pytest.raises(CheckpointError, match='ViT-L-14-336'):
        find_tower('ViT-L14-336', 'openai')
    with pytest.raises(CheckpointError, match='laion2b_s32b_b82k'):
        find_tower('ViT-L-14', 'laion2b_s32b')
    with pytest.raises(CheckpointError, match='there are openai'):
        find_tower('ViT-L-14-336', 'xyz')
    with pytest.raises(CheckpointError, match='no pretrained weights'):
        find_tower('ViT-S-32', 'openai')


def test_a_field_of_a_newer_open_clip_is_named(tiny_model):
    text = tiny_model.config.read_text()
    tiny_model.config.write_text(
        text.replace('"vision_cfg": {', '"vision_cfg": {"newer": 1, ')
    )
    with pytest.raises(CheckpointError, match=r"understand 'newer'"):
        find_tower(str(tiny_model.config), None)


def test_a_trunk_is_built_once_and_not_shared(monkeypatch):
    create, built = timm.create_model, []
    monkeypatch.setattr(
        timm,
        'create_model',
        lambda *args, **kwargs: built.append(args) or create(*args, **kwargs),
    )
    first = find_tower('ViT-B-16-SigLIP', None).backbone
    first['arch']['depth'] = 1
    second = find_tower('ViT-B-16-SigLIP', 'webli').backbone
    assert second['arch']['depth'] == 12
    assert len(built) <= 1  # none, if another test asked for it


def test_a_model_config_of_ones_own(tiny_model, tmp_path):
    path = tmp_path / 'epoch_1.pt'
    torch.save(dict(state_dict=tiny_model.model.state_dict()), path)
    checkpoint, _ = convert_source(str(tiny_model.config), str(path))
    meta = checkpoint['meta']['clip']
    assert meta['backbone'] == dict(
        type=CLIP,
        arch=dict(width=32, depth=2, num_heads=2, mlp_width=128),
        act='quick_gelu',
        img_size=32,
        patch_size=8,
        norm_eps=1e-5,
        pre_norm=True,
        pool='cls_token',
        layer_scale_init=None,
        proj_dim=24,
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
        convert_source('ViT-B-32', str(path), 'openai')
    assert 'cannot be converted as ViT-B-32' in str(error.value)
    assert 'missing: layers.2.ln1.weight' in str(error.value)
    assert str(error.value).endswith(' more.')


def test_a_local_file_needs_a_tag_where_the_tags_differ(tiny_model, tmp_path):
    path = tmp_path / 'x.pt'
    torch.save(tiny_model.model.state_dict(), path)
    with pytest.raises(CheckpointError, match=r'pass --tag(.|\n)*quick_gelu'):
        convert_source('ViT-L-14-336', str(path))
    with pytest.raises(
        CheckpointError, match='converted as ViT-B-16-plus-240'
    ):
        convert_source('ViT-B-16-plus-240', str(path))


def test_a_folder_called_like_a_tag_is_no_file(tmp_path, monkeypatch):
    (tmp_path / 'openai').mkdir()
    monkeypatch.chdir(tmp_path)
    tower, _ = open_clip_source('ViT-L-14-336', 'openai')
    assert tower.tag == 'openai'


def test_a_tag_beside_a_tag_is_refused():
    with pytest.raises(CheckpointError, match='is for local files'):
        convert_source('ViT-L-14-336', 'openai', 'openai')


def test_configs_that_are_none_are_refused(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text('{"a": 1}')
    with pytest.raises(CheckpointError, match='not a model config'):
        find_tower(str(path), None)
    path.write_text('{')
    with pytest.raises(CheckpointError, match='not a JSON file'):
        find_tower(str(path), None)


def assert_same_features(checkpoint, model) -> None:
    meta = checkpoint['meta']['clip']
    backbone = build_backbone(meta['backbone'])
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
