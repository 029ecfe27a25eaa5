"""open_clip's names, tags, configs and files come here; ours go there."""

import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from open_clip.model import CLIPVisionCfg
from open_clip.transform import PreprocessCfg
from safetensors.torch import load_file, save_file

from mmclip.analysis.parity import make_twins, randomize, relative_difference
from mmclip.checkpoint import (
    CheckpointError,
    convert_source,
    write_checkpoint,
)
from mmclip.checkpoint.towers.export import export_checkpoint
from mmclip.checkpoint.towers.open_clip import find_tower, open_clip_source
from mmclip.checkpoint.towers.open_clip_backbone import NATIVE
from mmclip.checkpoint.towers.open_clip_tables import (
    default_preprocess,
    model_config,
    model_names,
    pretrained_tags,
)
from mmclip.checkpoint.towers.sources import convert_folder
from mmclip.checkpoint.towers.tower import CLIP, OTHER, SIGLIP
from mmclip.models import OpenCLIPVisionTower
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_checkpoint.conftest import (
    CLIP_BACKBONE,
    feature,
    make_checkpoint,
    shrink,
)


def has_trunk_of_timm(name):
    return 'timm_model_name' in open_clip.get_model_config(name)['vision_cfg']


# To ask for timm's, their trunks are built.
PAIRS = [
    pytest.param(
        *pair, marks=pytest.mark.slow if has_trunk_of_timm(pair[0]) else []
    )
    for pair in open_clip.list_pretrained()
]
TINY_RESNET = dict(layers=[1, 1, 1, 1], width=8, image_size=32)


@pytest.mark.slow
def test_the_whole_zoo_is_covered():
    kinds = {
        name: find_tower(name, None).backbone['type']
        for name in open_clip.list_models()
    }
    assert Counter(kinds.values()) == {CLIP: 57, SIGLIP: 28, OTHER: 59}
    pairs = Counter(kinds[name] for name, _ in open_clip.list_pretrained())
    assert pairs == {CLIP: 102, SIGLIP: 30, OTHER: 64}


@pytest.mark.parametrize(('name', 'tag'), PAIRS)
def test_every_tag_has_its_own_activation_and_preprocessing(name, tag):
    wanted = open_clip.get_pretrained_cfg(name, tag)
    by_name = open_clip.get_model_config(name).get('quick_gelu', False)
    tower = find_tower(name, tag)
    if tower.backbone['type'] == CLIP and not has_trunk_of_timm(name):
        is_quick = by_name or wanted.get('quick_gelu', False)
        assert (tower.backbone['act'] == 'quick_gelu') == is_quick
    else:  # timm's towers and ResNets follow neither
        assert tower.backbone.get('act') != 'quick_gelu'
    ours = tower.preprocess
    assert ours['interpolation'] == wanted['interpolation']
    assert ours['resize_mode'] == wanted['resize_mode']
    assert ours['mean'] == list(wanted['mean'])
    assert ours['std'] == list(wanted['std'])


def test_the_openai_trap():
    assert find_tower('ViT-L-14-336', None).backbone['act'] == 'gelu'
    assert find_tower('ViT-L-14-336', 'openai').backbone['act'] == 'quick_gelu'
    assert find_tower('ViT-L-14-336', 'OpenAI').backbone['act'] == 'quick_gelu'


@pytest.mark.parametrize(
    ('name', 'tag', 'message'),
    [
        ('ViT-L14-336', 'openai', 'ViT-L-14-336'),
        ('ViT-L-14', 'laion2b_s32b', 'laion2b_s32b_b82k'),
        ('ViT-L-14-336', 'xyz', 'its tags: openai'),
        ('ViT-S-32', 'openai', 'no pretrained weights'),
    ],
)
def test_unknown_names_and_tags_get_the_known(name, tag, message):
    with pytest.raises(CheckpointError, match=message):
        find_tower(name, tag)


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
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = tiny_model.model.encode_image(x)
    ours = feature(checkpoint, x)
    assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE


def test_a_file_that_is_another_model_is_refused(converted):
    with pytest.raises(CheckpointError) as error:
        convert_source('ViT-B-32', str(converted[1]), 'openai')
    assert 'cannot be converted as ViT-B-32' in str(error.value)
    assert 'missing: layers.2.ln1.weight' in str(error.value)
    assert str(error.value).endswith(' more.')


def test_a_local_file_needs_a_tag_where_the_tags_differ(converted):
    path = str(converted[1])
    with pytest.raises(CheckpointError, match=r'Pass --tag(.|\n)*quick_gelu'):
        convert_source('ViT-L-14-336', path)
    with pytest.raises(CheckpointError, match='as ViT-B-16-plus-240'):
        convert_source('ViT-B-16-plus-240', path)


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
    with pytest.raises(CheckpointError, match='not an open_clip model config'):
        find_tower(str(path), None)
    path.write_text('{')
    with pytest.raises(CheckpointError, match='not a JSON file'):
        find_tower(str(path), None)


def test_open_clips_folders(tiny_model, tmp_path):
    model_cfg = json.loads(tiny_model.config.read_text())
    preprocess = dict(mean=[0.5] * 3, std=[0.5] * 3, resize_mode='squash')
    (tmp_path / 'open_clip_config.json').write_text(
        json.dumps(dict(model_cfg=model_cfg, preprocess_cfg=preprocess))
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
    clip = checkpoint['meta']['clip']
    assert clip['source']['name'] == tmp_path.name
    assert clip['preprocess'] == preprocess | dict(interpolation='bicubic')


@pytest.mark.parametrize(
    'name', ['roberta-ViT-B-32', 'xlm-roberta-base-ViT-B-32']
)
def test_names_that_need_transformers_convert_without_it(
    tmp_path, monkeypatch, name
):
    """And no text tower is ever built."""
    shrink(monkeypatch, name)
    reference, _ = make_twins(name)
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    save_file(weights, tmp_path / 'x.safetensors')
    built = 'open_clip.model._build_text_tower', 'open_clip.CLIP.__init__'
    for place in (*built, 'open_clip.CustomTextCLIP.__init__'):
        monkeypatch.setattr(place, lambda *_, **__: pytest.fail('is built'))
    # Importing it is an ImportError.
    monkeypatch.setitem(sys.modules, 'transformers', None)
    path = str(tmp_path / 'x.safetensors')
    checkpoint, _ = convert_source(name, path, 'none')
    assert len(checkpoint['state_dict']) == len(weights)


def test_towers_of_open_clip_itself_load_strictly(tmp_path, monkeypatch):
    shrink(monkeypatch, 'RN50', **TINY_RESNET)
    shrink(monkeypatch, 'RN101', **TINY_RESNET | dict(layers=[1, 1, 2, 1]))
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
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(tower.eval()(x)[0], reference(x))
    with pytest.raises(CheckpointError, match="layers': \\[1, 1, 1, 1\\]"):
        OpenCLIPVisionTower('RN101', init_cfg=init_cfg).init_weights()
    del weights['visual.conv1.weight']
    save_file(weights, tmp_path / 'x.safetensors')
    with pytest.raises(
        CheckpointError, match=r'missing: tower\.conv1\.weight'
    ):
        convert_source('RN50', str(tmp_path / 'x.safetensors'), 'openai')


class TestToOpenCLIP:
    def test_a_whole_model_with_the_base(self, converted, tiny_model):
        checkpoint, path = converted
        checkpoint['state_dict']['backbone.ln1.bias'] += 1
        base = torch.load(path)
        exported = export_checkpoint(checkpoint, 'open_clip', base=base)
        tiny_model.model.load_state_dict(exported.state_dict)  # strictly
        changed = [
            key
            for key in base
            if not torch.equal(base[key], exported.state_dict[key])
        ]
        assert changed == ['visual.ln_post.bias']

    def test_a_tower_without_projection_wants_the_base(self, converted):
        checkpoint, path = converted
        backbone = checkpoint['meta']['clip']['backbone']
        del backbone['proj_dim'], checkpoint['state_dict']['backbone.proj']
        with pytest.raises(CheckpointError, match='Pass --base'):
            export_checkpoint(checkpoint, 'open_clip')
        base = torch.load(path)
        exported = export_checkpoint(checkpoint, 'open_clip', base=base)
        assert set(exported.state_dict) == set(base)
        assert exported.notes[-1].endswith(', of the image tower visual.proj')

    def test_the_call_names_what_open_clip_knows(self, converted, monkeypatch):
        monkeypatch.setattr(open_clip, 'list_models', lambda: ['ViT-B-32'])
        checkpoint, _ = converted
        source = checkpoint['meta']['clip']['source']
        for name, printed in (
            ('tiny', 'NAME, force'),
            ('x.json', "'x', force"),
            ('ViT-B-32', "'ViT-B-32', force_image_size=32, force"),
        ):
            source['name'] = name
            exported = export_checkpoint(checkpoint, 'open_clip')
            call = f'open_clip.create_model({printed}_quick_gelu=True)'
            assert call in exported.usage(Path('x.pt'))
            noted = any('NAME is not known' in n for n in exported.notes)
            assert noted == (name == 'tiny')

    def test_a_tower_from_elsewhere_has_the_name_of_its_like(self):
        backbone = find_tower('ViT-S-32', None).backbone
        checkpoint, _ = make_checkpoint(backbone, a=1)
        usage = export_checkpoint(checkpoint, 'open_clip').usage
        call = "open_clip.create_model('ViT-S-32')"
        assert call in usage(Path('x.pt'))

    def test_the_mean_of_patches_is_sent_where_it_can_go(self):
        backbone = CLIP_BACKBONE | dict(out_type='avg_featmap')
        checkpoint, _ = make_checkpoint(backbone, a=1)
        with pytest.raises(CheckpointError, match='Pass --to timm or --to hf'):
            export_checkpoint(checkpoint, 'open_clip')

    def test_another_base_is_refused(self, converted):
        with pytest.raises(CheckpointError, match='base is another model'):
            export_checkpoint(converted[0], 'open_clip', base=dict(a=1))


@pytest.mark.parametrize(
    'name',
    [
        'ViT-M-16-alt',
        'ViT-L-14-CLIPA',
        'coca_ViT-B-32',
        'MobileCLIP2-L-14',
        'ViT-B-16-SigLIP',
        'convnext_tiny',
    ],
)
def test_every_kind_of_tower_goes_back_bit_identically(name):
    reference, backbone = make_twins(name, depth=2, width=64)
    cfg = find_tower(name, None).backbone
    if 'arch' in cfg:
        cfg['arch'] = dict(width=64, depth=2, num_heads=2, mlp_width=128)
    tensors = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    checkpoint = dict(
        state_dict=tensors, meta=dict(clip=dict(backbone=cfg, img_size=224))
    )
    exported = export_checkpoint(checkpoint, 'open_clip').state_dict
    prefix = 'trunk.' if 'pos_embed' in exported else ''
    original = reference.state_dict()
    assert {prefix + key for key in exported} == set(original)
    for key, tensor in exported.items():
        assert torch.equal(tensor, original[prefix + key]), key


@pytest.mark.parametrize('name', ['ViT-S-32', 'ViT-M-32-alt'])
def test_open_clip_itself_loads_a_whole_model(name, tmp_path, monkeypatch):
    """Through create_model, as a user does."""
    shrink(monkeypatch, name)
    model = open_clip.create_model(name)
    randomize(model.visual)
    path = tmp_path / 'x.safetensors'
    save_file(model.state_dict(), path)
    checkpoint, _ = convert_source(name, str(path), 'none')
    exported = export_checkpoint(
        checkpoint, 'open_clip', base=load_file(path)
    ).state_dict
    save_file(exported, tmp_path / 'y.safetensors')
    again = open_clip.create_model(name, str(tmp_path / 'y.safetensors'))
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


class TestTables:
    """What is read without importing open_clip is what open_clip says."""

    def test_fields_of_native_towers(self):
        for name, default in NATIVE.items():
            assert getattr(CLIPVisionCfg(), name) == default

    def test_preprocessing(self):
        theirs = dataclasses.asdict(PreprocessCfg())
        assert default_preprocess() == {
            name: theirs[name] for name in default_preprocess()
        }

    def test_models(self, monkeypatch):
        theirs = {n: open_clip.get_model_config(n) for n in model_names()}
        assert set(theirs) == set(open_clip.list_models())
        monkeypatch.delitem(sys.modules, 'open_clip')
        assert {name: model_config(name) for name in theirs} == theirs
        assert 'open_clip' not in sys.modules

    def test_tags(self):
        pairs = [(n, tag) for n in model_names() for tag in pretrained_tags(n)]
        assert sorted(pairs) == sorted(open_clip.list_pretrained())
        for name, tag in pairs:
            theirs = open_clip.get_pretrained_cfg(name, tag)
            assert pretrained_tags(name)[tag] == theirs
