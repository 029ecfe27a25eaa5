"""Models of timm that only timm can build: files come here and go back."""

import json

import open_clip
import pytest
import timm
import torch
from mmengine.utils import to_2tuple
from mmpretrain.registry import MODELS
from safetensors.torch import load_file, save_file

from mmclip.analysis.parity import randomize, relative_difference
from mmclip.checkpoint import (
    CheckpointError,
    PretrainedCLIP,
    convert_source,
    write_checkpoint,
)
from mmclip.checkpoint.describe import describe_model, load_trained
from mmclip.checkpoint.towers.export import export_checkpoint
from mmclip.checkpoint.towers.inspect import inspect_weights, why_not
from mmclip.checkpoint.towers.sources import convert_folder
from mmclip.checkpoint.towers.tower import TIMM_TOWER, build_backbone
from mmclip.commands import convert as convert_command
from mmclip.models import TimmVisionTower
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_checkpoint.conftest import feature, shrink_timm

TIPS = pytest.mark.skipif(
    not timm.is_model('vit_base_patch14_reg1_tipsv2'),
    reason='timm 1.0.28 or newer has it',
)
# Names and tags, and how wide timm's head is: a projection or a classifier.
TOWERS = [
    ('vit_pe_spatial_base_patch16_512', 'fb', 0),
    ('vit_pe_lang_large_patch14_448', 'fb', 0),
    ('vit_pe_core_base_patch16_224', 'fb', 1024),
    ('eva02_base_patch16_clip_224', 'merged2b', 512),
    pytest.param('vit_base_patch14_reg1_tipsv2', 'webli', 0, marks=TIPS),
    ('naflexvit_base_patch16_siglip', 'v2_webli', 0),
]
CLASSIFIERS = [
    ('eva_large_patch14_336', 'in22k_ft_in22k_in1k', 1000),
    ('eva_giant_patch14_336', 'm30m_ft_in22k_in1k', 1000),
    ('eva_giant_patch14_224', 'clip_ft_in1k', 1000),
    ('eva02_base_patch14_448', 'mim_in22k_ft_in22k', 21841),
    ('eva02_large_patch14_448', 'mim_m38m_ft_in22k_in1k', 1000),
]
NATIVE_CLASSIFIERS = [
    ('vit_so400m_patch14_siglip_378', 'webli_ft_in1k', 1000),
    ('vit_so400m_patch14_siglip_gap_378', 'webli_ft_in1k', 1000),
    ('vit_large_patch14_clip_336', 'openai_ft_in12k_in1k', 1000),
]
META_CLIP_2 = [
    ('vit_huge_patch14_clip_quickgelu_224', 'metaclip2_worldwide', 1024),
    ('vit_huge_patch14_clip_378', 'metaclip2_worldwide', 1024),
    ('vit_gigantic_patch14_clip_224', 'metaclip2_worldwide', 1280),
    ('vit_gigantic_patch14_clip_378', 'metaclip2_worldwide', 1280),
]


@pytest.fixture
def small(monkeypatch):
    shrink_timm(monkeypatch)


def saved(name, tag, path):
    """A random model of timm with its own head, in eval mode, in a file."""
    torch.manual_seed(0)
    model = timm.create_model(f'{name}.{tag}')
    randomize(model)
    save_file(model.state_dict(), path)
    return model.eval()


def images(size):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 3, *to_2tuple(size), generator=generator)


def classify(checkpoint, x):
    """With an mmpretrain classifier, as the printed config lines say."""
    clip = checkpoint['meta']['clip']
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=clip['backbone'],
            head=clip['head'],
        )
    )
    model.load_state_dict(checkpoint['state_dict'])
    with torch.no_grad():
        return model.eval()(x)


def assert_same(name, tag, path):
    """Compare a converted file's feature or logits with timm's outputs."""
    model = saved(name, tag, path)
    checkpoint, _ = convert_source(name, str(path), tag)
    clip = checkpoint['meta']['clip']
    x = images(clip['img_size'])
    with torch.no_grad():
        wanted = model(x)
    ours = (classify if 'head' in clip else feature)(checkpoint, x)
    assert ours.shape == wanted.shape
    assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE
    return checkpoint


@pytest.mark.usefixtures('small')
class TestFromTimm:
    @pytest.mark.parametrize(('name', 'tag', 'dim'), TOWERS)
    def test_towers(self, tmp_path, name, tag, dim):
        checkpoint = assert_same(name, tag, tmp_path / 'x.safetensors')
        clip = checkpoint['meta']['clip']
        assert clip['backbone']['type'] == TIMM_TOWER
        assert clip['backbone'].get('proj_dim', 0) == dim
        assert 'head' not in clip
        data = timm.get_pretrained_cfg(f'{name}.{tag}')
        assert tuple(clip['preprocess']['mean']) == data.mean
        assert clip['img_size'] == data.input_size[1]

    @pytest.mark.parametrize(('name', 'tag', 'dim'), CLASSIFIERS)
    def test_classifiers(self, tmp_path, name, tag, dim):
        checkpoint = assert_same(name, tag, tmp_path / 'x.safetensors')
        clip = checkpoint['meta']['clip']
        assert clip['backbone']['type'] == TIMM_TOWER
        assert clip['head']['num_classes'] == dim
        assert checkpoint['state_dict']['head.fc.weight'].shape == (dim, 64)

    @pytest.mark.parametrize(('name', 'tag', 'dim'), NATIVE_CLASSIFIERS)
    def test_classifiers_of_our_own_blocks(self, tmp_path, name, tag, dim):
        checkpoint = assert_same(name, tag, tmp_path / 'x.safetensors')
        clip = checkpoint['meta']['clip']
        assert clip['backbone']['type'] != TIMM_TOWER
        assert clip['head']['num_classes'] == dim

    @pytest.mark.parametrize(('name', 'tag', 'dim'), META_CLIP_2)
    def test_meta_clip_2(self, tmp_path, name, tag, dim):
        path = tmp_path / 'x.safetensors'
        model = timm.create_model(f'{name}.{tag}')
        torch.nn.init.zeros_(model.head.bias)  # as converted from CLIP's
        save_file(model.state_dict(), path)
        checkpoint, _ = convert_source(name, str(path), tag)
        backbone = checkpoint['meta']['clip']['backbone']
        x = images(backbone['img_size'])
        with torch.no_grad():
            wanted = model.eval()(x)
        ours = feature(checkpoint, x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE
        assert backbone['proj_dim'] == dim
        is_quick = 'quickgelu' in name
        assert backbone['act'] == ('quick_gelu' if is_quick else 'gelu')

    def test_without_rotary_embeddings_outputs_differ(self, tmp_path):
        """They have no tensors in the file."""
        name, path = 'vit_pe_spatial_base_patch16_512', tmp_path / 'x.pth'
        checkpoint = assert_same(name, 'fb', tmp_path / 'x.safetensors')
        write_checkpoint(checkpoint, path)
        tower = TimmVisionTower(name)
        PretrainedCLIP(str(path))(tower)
        x = images(512)
        with torch.no_grad():
            wanted = tower.eval()(x)[0]
            tower.tower.rope = None
            wrong = tower(x)[0]
        assert relative_difference(wrong, wanted) > RELATIVE_TOLERANCE

    def test_names_of_open_clip(self, tmp_path):
        """Whole models, whose text tower is left out."""
        name, path = 'vit_pe_core_base_patch16_224', tmp_path / 'x.safetensors'
        model = saved(name, 'fb', path)
        whole = {
            f'visual.trunk.{k}': t for k, t in model.state_dict().items()
        } | {'text.proj.weight': torch.zeros(1), 'logit_scale': torch.ones(())}
        save_file(whole, path)
        checkpoint, conversion = convert_source(name, str(path), 'fb')
        assert conversion.left_out == {
            'text tower': ['text.proj.weight'],
            'contrastive head': ['logit_scale'],
        }
        x = images(224)
        with torch.no_grad():
            wanted = model(x)
        ours = feature(checkpoint, x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    def test_without_a_tag_tensors_tell_the_projection(self, tmp_path):
        name, path = 'vit_pe_core_base_patch16_224', tmp_path / 'x.safetensors'
        model = timm.create_model(name, num_classes=24)
        save_file(model.state_dict(), path)
        checkpoint, _ = convert_source(name, str(path), 'none')
        assert checkpoint['meta']['clip']['backbone']['proj_dim'] == 24

    def test_a_damaged_classifier_is_refused(self, tmp_path):
        name, path = 'eva_large_patch14_336', tmp_path / 'x.safetensors'
        weights = saved(name, 'in22k_ft_in1k', path).state_dict()
        for change, message in [
            (dict(), 'is not a linear layer'),
            ({'head.bias': torch.zeros(3)}, 'a bias for 3 classes'),
            ({'head.bias': torch.zeros(3, 1)}, 'is not a linear layer'),
        ]:
            rest = {k: t for k, t in weights.items() if k != 'head.bias'}
            save_file(rest | change, path)
            with pytest.raises(CheckpointError, match=message):
                convert_source(name, str(path), 'in22k_ft_in1k')

    def test_keys_of_another_model_are_refused(self, tmp_path):
        path = tmp_path / 'x.safetensors'
        saved('vit_pe_spatial_base_patch16_512', 'fb', path)
        with pytest.raises(CheckpointError, match=r'missing: .*reg_token'):
            convert_source('vit_base_patch14_reg4_dinov2', str(path), 'none')

    def test_a_file_needs_a_tag_where_tags_differ(self, tmp_path):
        name, path = 'eva02_base_patch14_448', tmp_path / 'x.safetensors'
        saved(name, 'mim_in22k_ft_in1k', path)
        with pytest.raises(CheckpointError, match='differ in preprocessing'):
            convert_source(name, str(path))


@pytest.mark.usefixtures('small')
class TestUse:
    """What is done with a converted file."""

    @pytest.fixture
    def spatial(self, tmp_path):
        name, path = 'vit_pe_spatial_base_patch16_512', tmp_path / 'x.pth'
        checkpoint = assert_same(name, 'fb', tmp_path / 'timm.safetensors')
        write_checkpoint(checkpoint, path)
        return name, path, tmp_path / 'timm.safetensors'

    def test_maps_in_a_config(self, spatial):
        name, path, source = spatial
        tower = MODELS.build(
            dict(
                type=TIMM_TOWER,
                model=name,
                out_type='featmap',
                out_indices=[0, 1],
                init_cfg=dict(
                    type='mmclip.PretrainedCLIP', checkpoint=str(path)
                ),
            )
        )
        tower.init_weights()
        model = timm.create_model(name)
        model.load_state_dict(load_file(source))
        x = images((64, 96))
        model.set_input_size((64, 96))
        with torch.no_grad():
            wanted = model.eval().forward_intermediates(
                x, indices=[0, 1], intermediates_only=True
            )
            ours = tower.eval()(x)
        for mine, theirs in zip(ours, wanted, strict=True):
            assert mine.shape == (1, 64, 4, 6)
            assert relative_difference(mine, theirs) <= RELATIVE_TOLERANCE

    def test_a_projection_is_left_out_where_there_is_none(self, tmp_path):
        name, path = 'vit_pe_core_base_patch16_224', tmp_path / 'x.pth'
        checkpoint = assert_same(name, 'fb', tmp_path / 'timm.safetensors')
        write_checkpoint(checkpoint, path)
        tower = TimmVisionTower(name)
        PretrainedCLIP(str(path))(tower)
        model = timm.create_model(f'{name}.fb')
        model.load_state_dict(load_file(tmp_path / 'timm.safetensors'))
        model.reset_classifier(0)
        x = images(224)
        with torch.no_grad():
            wanted, (ours,) = model.eval()(x), tower.eval()(x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    def test_another_model_refuses_it(self, spatial):
        name, path, _ = spatial
        other = TimmVisionTower('vit_pe_spatial_small_patch16_512')
        with pytest.raises(CheckpointError, match=f'model: .*{name}'):
            PretrainedCLIP(str(path))(other)

    @pytest.mark.parametrize(
        ('name', 'tag'), [TOWERS[0][:2], TOWERS[2][:2], CLASSIFIERS[0][:2]]
    )
    def test_back_again(self, tmp_path, name, tag):
        path = tmp_path / 'x.safetensors'
        saved(name, tag, path)
        checkpoint, _ = convert_source(name, str(path), tag)
        exported = export_checkpoint(checkpoint, 'timm')
        before = load_file(path)
        assert exported.state_dict.keys() == before.keys()
        for key, tensor in exported.state_dict.items():
            assert torch.equal(tensor, before[key]), key
        out = tmp_path / 'again.safetensors'
        save_file(exported.state_dict, out)
        names: dict = {}
        exec(exported.usage(out), names)  # loads strictly
        assert names['model'].num_classes == len(before.get('head.bias', ()))

    @pytest.mark.parametrize('to', ['open_clip', 'hf'])
    def test_only_timm_can_build_it(self, spatial, to):
        _, _, source = spatial
        checkpoint, _ = convert_source(spatial[0], str(source), 'fb')
        with pytest.raises(CheckpointError, match='only timm can build it'):
            export_checkpoint(checkpoint, to)

    def test_a_head_for_two_is_refused(self, tmp_path):
        name, path = 'vit_pe_core_base_patch16_224', tmp_path / 'x.safetensors'
        saved(name, 'fb', path)
        checkpoint, _ = convert_source(name, str(path), 'fb')
        head = {
            'head.fc.weight': torch.zeros(3, 1024),
            'head.fc.bias': torch.zeros(3),
        }
        checkpoint['state_dict'] |= head
        with pytest.raises(CheckpointError, match='both a projection and'):
            export_checkpoint(checkpoint, 'timm')

    def test_inspection(self, spatial):
        name, path, source = spatial
        fitting = dict(type=TIMM_TOWER, model=name, out_type='featmap')
        assert inspect_weights(path).problem is None
        for file in (path, source):
            assert why_not(inspect_weights(file), file, fitting) is None
        other = dict(fitting, model='vit_base_patch14_reg4_dinov2')
        assert 'model' in why_not(inspect_weights(path), path, other)
        assert 'reg_token' in why_not(inspect_weights(source), source, other)

    def test_the_command(self, spatial, tmp_path, capsys):
        name, _, source = spatial
        out = tmp_path / 'out.pth'
        assert convert_command.main([name, str(source), str(out)]) == 0
        printed = capsys.readouterr().out
        assert "backbone=dict(type='mmclip.TimmVisionTower'" in printed
        assert f'model={name!r}' in printed
        assert 'activation: as timm builds it' in printed

    def test_the_command_prints_a_classifiers_head(self, tmp_path, capsys):
        name, path = 'eva_large_patch14_336', tmp_path / 'x.safetensors'
        saved(name, 'in22k_ft_in1k', path)
        out = tmp_path / 'out.pth'
        arguments = [name, str(path), str(out), '--tag', 'in22k_ft_in1k']
        assert convert_command.main(arguments) == 0
        printed = capsys.readouterr().out
        assert (
            "head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, "
            'in_channels=64),'
        ) in printed
        assert 'the classifier as it is: mmclip test CONFIG FILE' in printed
        assert f'wrote {out} (a classifier' in printed

    def test_what_training_writes(self, tmp_path):
        """Of a classifier for smaller images than the weights were for."""
        name, path = 'eva_large_patch14_336', tmp_path / 'x.safetensors'
        saved(name, 'in22k_ft_in1k', path)
        start, _ = convert_source(name, str(path), 'in22k_ft_in1k')
        model = MODELS.build(
            dict(
                type='mmpretrain.ImageClassifier',
                data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3),
                backbone=dict(type=TIMM_TOWER, model=name, img_size=224),
                head=dict(
                    type='mmpretrain.LinearClsHead',
                    num_classes=5,
                    in_channels=64,
                ),
            )
        )
        PretrainedCLIP('x').load(start, model.backbone)
        clip = describe_model(model, None, 'abcde')
        assert clip['backbone']['model'] == name
        assert clip['img_size'] == 224
        checkpoint = dict(meta=dict(clip=clip), state_dict=model.state_dict())
        load_trained(checkpoint, model)
        exported = export_checkpoint(checkpoint, 'timm')
        out = tmp_path / 'again.safetensors'
        save_file(exported.state_dict, out)
        names: dict = {}
        exec(exported.usage(out), names)
        x = images(224)
        with torch.no_grad():
            ours, wanted = model.eval()(x), names['model'].eval()(x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE


def test_other_models_are_refused(tmp_path):
    path = tmp_path / 'x.safetensors'
    save_file(dict(a=torch.zeros(1)), path)
    with pytest.raises(CheckpointError, match='ResNet, not one of its plain'):
        convert_source('resnet18', str(path), 'none')


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(CheckpointError, match="mean 'eva_large_patch14_336'"):
        convert_source('eva_large_patch14_33', 'in22k_ft_in1k')


def test_a_strangers_description_chooses_no_address():
    for model in ('hf-hub:someone/x', '../x', ['x'], 'resnet18'):
        with pytest.raises(CheckpointError):
            build_backbone(dict(type=TIMM_TOWER, model=model), 'meta')


def test_a_model_of_a_newer_timm_says_which(monkeypatch):
    monkeypatch.setattr(timm, 'is_model', lambda name: False)
    with pytest.raises(CheckpointError, match=r'it came with timm 1\.0\.28'):
        convert_source('vit_base_patch14_reg1_tipsv2', 'webli')


# ViT-B-16-SigLIP2-naflex in open_clip 4.2.0.dev0, without the text tower.
NAFLEX = dict(
    embed_dim=768,
    vision_cfg=dict(
        image_size=384,
        image_seq_len=576,
        timm_model_name='naflexvit_base_patch16_siglip',
        timm_model_pretrained=False,
        timm_pool='map',
        timm_proj='none',
    ),
)


class TestNaFlexOfOpenCLIP:
    """Its version 4 has them; version 3 does not."""

    @pytest.mark.skipif(
        'ViT-B-16-SigLIP2-naflex' in open_clip.list_models(),
        reason='this open_clip has it',
    )
    def test_names_say_which_version_has_them(self):
        with pytest.raises(CheckpointError, match='came with version 4') as e:
            convert_source('ViT-B-16-SigLIP2-naflex', 'webli')
        assert 'mmclip convert naflexvit_base_patch16_siglip' in str(e.value)

    @pytest.mark.usefixtures('small')
    def test_a_folder_converts(self, tmp_path):
        config = dict(model_cfg=NAFLEX, preprocess_cfg={})
        (tmp_path / 'open_clip_config.json').write_text(json.dumps(config))
        path = tmp_path / 'open_clip_model.safetensors'
        model = saved('naflexvit_base_patch16_siglip', 'v2_webli', path)
        weights = {
            f'visual.trunk.{k}': t for k, t in model.state_dict().items()
        }
        save_file(weights | {'logit_bias': torch.zeros(())}, path)
        checkpoint = convert_folder(tmp_path)
        assert checkpoint['meta']['clip']['img_size'] == 384
        x = images((128, 96))
        with torch.no_grad():
            wanted = model(x)
        ours = feature(checkpoint, x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    def test_arguments_for_timm_are_refused(self, tmp_path):
        config = dict(NAFLEX)
        config['vision_cfg'] = config['vision_cfg'] | dict(
            timm_model_kwargs=dict(pretrained_cfg='x')
        )
        (tmp_path / 'x.json').write_text(json.dumps(config))
        save_file(dict(a=torch.zeros(1)), tmp_path / 'x.safetensors')
        with pytest.raises(CheckpointError, match='timm_model_kwargs'):
            convert_source(
                str(tmp_path / 'x.json'), str(tmp_path / 'x.safetensors')
            )


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ('name', 'tag'),
    [
        ('vit_pe_spatial_tiny_patch16_512', 'fb'),
        ('vit_pe_spatial_small_patch16_512', 'fb'),
        ('vit_pe_spatial_base_patch16_512', 'fb'),
        ('vit_pe_spatial_large_patch14_448', 'fb'),
        ('vit_pe_core_large_patch14_336', 'fb'),
        ('eva_large_patch14_336', 'in22k_ft_in22k_in1k'),
        ('eva02_large_patch14_448', 'mim_m38m_ft_in22k_in1k'),
        ('vit_so400m_patch14_siglip_378', 'webli_ft_in1k'),
        pytest.param('vit_large_patch14_reg1_tipsv2', 'webli', marks=TIPS),
        ('naflexvit_so400m_patch16_siglip', 'v2_webli'),
    ],
)
def test_full_size(tmp_path, name, tag):
    """With random weights."""
    assert_same(name, tag, tmp_path / 'x.safetensors')
