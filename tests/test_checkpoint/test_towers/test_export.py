"""There and back: other projects load what is exported, strictly."""

import json
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import timm
import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS
from packaging import version
from PIL import Image
from safetensors.torch import load_file, save_file

from mmclip.analysis.parity import make_twins, randomize, relative_difference
from mmclip.checkpoint import CheckpointError, convert_source
from mmclip.checkpoint.towers.export import export_checkpoint, write_export
from mmclip.checkpoint.towers.timm import timm_arguments
from mmclip.checkpoint.towers.tower import (
    CLIP,
    ZERO_SHOT,
    build_backbone,
)
from mmclip.datasets import preprocessing
from tests.conftest import RELATIVE_TOLERANCE

transformers = pytest.importorskip('transformers')
CLIP_BACKBONE = dict(
    type=CLIP,
    arch=dict(width=32, depth=2, num_heads=2, mlp_width=96),
    act='quick_gelu',
    img_size=32,
    patch_size=8,
)
SIGLIP_BACKBONE = CLIP_BACKBONE | dict(
    type='mmclip.SigLIPVisionTransformer', act='gelu_tanh'
)

PREPROCESS = dict(
    mean=[0.4, 0.5, 0.6],
    std=[0.25] * 3,
    interpolation='bicubic',
    resize_mode='shortest',
)


def make_checkpoint(backbone, num_classes=None, **meta):
    """Random weights of a backbone, and the backbone."""
    torch.manual_seed(0)
    module = build_backbone(backbone).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tensors = {f'backbone.{k}': v for k, v in module.state_dict().items()}
    if num_classes:
        head = torch.nn.Linear(32, num_classes)
        module = torch.nn.Sequential(module, First(), head)
        tensors |= {f'head.fc.{k}': v for k, v in head.state_dict().items()}
    meta = dict(clip=dict(backbone=backbone, **meta)) if meta else {}
    return dict(meta=meta, state_dict=tensors), module


class First(torch.nn.Module):
    def forward(self, x):
        return x[0]


def assert_same(ours, theirs, x=None):
    x = torch.randn(2, 3, 32, 32) if x is None else x
    with torch.no_grad():
        ours, theirs = ours(x), theirs(x)
    ours = ours[0] if isinstance(ours, tuple) else ours
    assert relative_difference(ours, theirs) <= RELATIVE_TOLERANCE


class TestOpenCLIP:
    @pytest.fixture
    def converted(self, tiny_model, tmp_path):
        path = tmp_path / 'x.safetensors'
        save_file(tiny_model.model.state_dict(), path)
        return convert_source(str(tiny_model.config), str(path))[0], path

    def test_the_round_trip_is_bit_identical(self, converted, tiny_model):
        exported = export_checkpoint(converted[0], 'open_clip').state_dict
        original = tiny_model.model.visual.state_dict()
        assert set(exported) == set(original)
        assert all(torch.equal(exported[k], original[k]) for k in original)
        tiny_model.model.visual.load_state_dict(exported)  # strictly

    def test_a_whole_model_with_the_base(self, converted, tiny_model):
        checkpoint, path = converted
        checkpoint['state_dict']['backbone.ln1.bias'] += 1
        base = load_file(path)
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
        with pytest.raises(CheckpointError, match='pass --base'):
            export_checkpoint(checkpoint, 'open_clip')
        base = load_file(path)
        exported = export_checkpoint(checkpoint, 'open_clip', base=base)
        assert set(exported.state_dict) == set(base)
        assert any("'visual.proj'" in note for note in exported.notes)

    def test_the_call_names_what_open_clip_knows(self, converted):
        checkpoint, _ = converted
        source = checkpoint['meta']['clip']['source']
        for name, printed in (('tiny', 'NAME'), ('ViT-B-32', "'ViT-B-32'")):
            source['name'] = name
            usage = export_checkpoint(checkpoint, 'open_clip').usage
            assert usage.startswith(f'open_clip.create_model({printed}, ')

    def test_the_mean_of_patches_is_sent_where_it_can_go(self):
        backbone = CLIP_BACKBONE | dict(out_type='avg_featmap')
        checkpoint, _ = make_checkpoint(backbone, a=1)
        with pytest.raises(CheckpointError, match='pass --to timm or --to hf'):
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
    reference, backbone = make_twins(name, depth=2)
    cfg = find_backbone(name)
    if 'arch' in cfg:
        cfg['arch'] |= dict(depth=2)
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


def find_backbone(name):
    from mmclip.checkpoint.towers.open_clip import find_tower

    return find_tower(name, None).backbone


class TestTimm:
    @pytest.mark.parametrize(
        'changes',
        [
            dict(),
            dict(proj_dim=24),
            dict(proj_dim=24, proj_bias=True),
            dict(layer_scale_init=0.1),
            dict(out_type='avg_featmap'),
            dict(act='gelu', norm_eps=1e-6),
        ],
        ids=str,
    )
    def test_clip(self, changes):
        checkpoint, module = make_checkpoint(CLIP_BACKBONE | changes, a=1)
        self.assert_loads(checkpoint, module)

    @pytest.mark.parametrize('pool', ['attention', 'avg'])
    def test_siglip(self, pool):
        backbone = SIGLIP_BACKBONE | dict(pool=pool)
        checkpoint, module = make_checkpoint(backbone, a=1)
        self.assert_loads(checkpoint, module)

    def test_a_classifier(self):
        checkpoint, module = make_checkpoint(CLIP_BACKBONE, 5, a=1)
        self.assert_loads(checkpoint, module)

    def test_the_printed_call_works(self):
        checkpoint, module = make_checkpoint(CLIP_BACKBONE, 5, a=1)
        exported = export_checkpoint(checkpoint, 'timm')
        from functools import partial

        call = exported.usage.removesuffix('.load_state_dict(weights)')
        # What we print for users to run, of our own config.
        model = eval(call, dict(timm=timm, torch=torch, partial=partial))
        model.load_state_dict(exported.state_dict)
        assert_same(module, model.eval())

    def assert_loads(self, checkpoint, module):
        tensors = export_checkpoint(checkpoint, 'timm').state_dict
        backbone = checkpoint['meta']['clip']['backbone']
        described = build_backbone(backbone).architecture()
        model = timm.models.VisionTransformer(
            **timm_arguments(
                backbone | described, len(tensors.get('head.bias', ()))
            )
        )
        model.load_state_dict(tensors)  # strictly
        assert_same(module, model.eval())

    def test_what_timm_cannot_hold_is_refused(self):
        for changes in (
            dict(pool='avg'),
            dict(pool='attention', proj_dim=8),
            dict(pre_norm=False),
        ):
            checkpoint, _ = make_checkpoint(CLIP_BACKBONE | changes, a=1)
            with pytest.raises(CheckpointError, match='timm cannot hold'):
                export_checkpoint(checkpoint, 'timm')
        checkpoint, _ = make_checkpoint(SIGLIP_BACKBONE, 5, a=1)
        checkpoint['meta']['clip']['head'] = dict(type=ZERO_SHOT)
        with pytest.raises(CheckpointError, match='do not normalise'):
            export_checkpoint(checkpoint, 'timm')
        checkpoint, _ = make_checkpoint(
            CLIP_BACKBONE | dict(proj_dim=32), 5, a=1
        )
        with pytest.raises(CheckpointError, match='both a projection and'):
            export_checkpoint(checkpoint, 'timm')


class TestHuggingFace:
    @pytest.mark.parametrize(
        ('backbone', 'key'),
        [
            (CLIP_BACKBONE, 'pooler_output'),
            (CLIP_BACKBONE | dict(proj_dim=24), 'image_embeds'),
            (CLIP_BACKBONE | dict(norm_eps=1e-3, act='gelu'), 'pooler_output'),
            (SIGLIP_BACKBONE, 'pooler_output'),
        ],
        ids=str,
    )
    def test_from_pretrained(self, tmp_path, backbone, key):
        checkpoint, module = make_checkpoint(backbone, a=1)
        exported = export_checkpoint(checkpoint, 'hf')
        save_file(exported.state_dict, tmp_path / 'model.safetensors')
        for name, content in exported.files.items():
            (tmp_path / name).write_text(json.dumps(content))
        kind = getattr(transformers, exported.usage.split('.')[1])
        model, info = kind.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info.values()), info
        assert_same(module, lambda x: getattr(model.eval()(x), key))

    def test_preprocessing(self):
        preprocess = dict(
            mean=[0.5] * 3,
            std=[0.5] * 3,
            interpolation='bicubic',
            resize_mode='squash',
        )
        checkpoint, _ = make_checkpoint(
            SIGLIP_BACKBONE, preprocess=preprocess, img_size=32
        )
        files = export_checkpoint(checkpoint, 'hf').files
        processor = transformers.SiglipImageProcessor(
            **files['preprocessor_config.json']
        )
        assert list(processor.image_mean) == [0.5] * 3
        assert dict(processor.size) == dict(height=32, width=32)

    def test_the_processor_gives_the_same_pixels(self, tmp_path):
        """At margins that are even: odd ones are halved in two ways."""
        init_default_scope('mmpretrain')
        preprocess = dict(
            mean=[0.0] * 3,
            std=[1.0] * 3,
            interpolation='bicubic',
            resize_mode='shortest',
            crop_pct=0.88,
        )
        checkpoint, _ = make_checkpoint(
            CLIP_BACKBONE, preprocess=preprocess, img_size=32
        )
        files = export_checkpoint(checkpoint, 'hf').files
        processor = transformers.CLIPImageProcessor(
            **files['preprocessor_config.json']
        )
        colours = np.random.default_rng(0).integers(0, 256, (9, 12, 3))
        photo = Image.fromarray(colours.astype(np.uint8)).resize((64, 48))
        photo.save(tmp_path / 'photo.png')
        theirs = processor(photo, return_tensors='pt')['pixel_values'][0]
        pipeline = Compose(
            [
                TRANSFORMS.build(transform)
                for transform in preprocessing.test_pipeline(preprocess, 32)
            ]
        )
        ours = pipeline(dict(img_path=str(tmp_path / 'photo.png')))['inputs']
        difference = 255 * theirs - ours.flip(0)  # BGR
        assert difference.abs().max() < 1.5  # of 255: rounded once more

    def test_a_squashed_crop_is_refused(self):
        preprocess = dict(
            mean=[0.5] * 3,
            std=[0.5] * 3,
            interpolation='bicubic',
            resize_mode='squash',
            crop_pct=0.9,
        )
        checkpoint, _ = make_checkpoint(
            CLIP_BACKBONE, preprocess=preprocess, img_size=32
        )
        with pytest.raises(CheckpointError, match=r'crop_pct 0\.9'):
            export_checkpoint(checkpoint, 'hf')

    @pytest.mark.parametrize('num_classes', [None, 5])
    @pytest.mark.parametrize(
        ('backbone', 'reason'),
        [
            (CLIP_BACKBONE | dict(out_type='avg_featmap'), 'the mean of the'),
            (
                CLIP_BACKBONE
                | dict(out_type='avg_featmap', act='gelu', norm_eps=1e-6),
                'the mean of the',
            ),
            (CLIP_BACKBONE | dict(img_size=(32, 64)), 'images are 32x64'),
            (CLIP_BACKBONE | dict(layer_scale_init=0.1), 'it has LayerScale'),
            (SIGLIP_BACKBONE | dict(pool='avg'), 'it pools by avg'),
            (SIGLIP_BACKBONE | dict(out_type='avg_featmap'), 'the mean of'),
        ],
        ids=str,
    )
    def test_what_only_timm_can_hold_transformers_loads_through_it(
        self, tmp_path, backbone, num_classes, reason
    ):
        checkpoint, module = make_checkpoint(backbone, num_classes, a=1)
        checkpoint['meta']['clip']['preprocess'] = PREPROCESS
        names = ['blue', 'green', 'red', 'white', 'black']
        checkpoint['meta']['dataset_meta'] = dict(classes=names)
        exported = export_checkpoint(checkpoint, 'hf')
        assert reason in '\n'.join(exported.notes)
        write_export(exported, tmp_path)
        size = backbone['img_size']
        x = torch.randn(2, 3, *((size, size) if size == 32 else size))
        model = timm.create_model(f'local-dir:{tmp_path}', pretrained=True)
        assert_same(module, model.eval(), x)
        data = timm.data.resolve_model_data_config(model)
        assert list(data['mean']) == PREPROCESS['mean']
        assert data['crop_pct'] == 1.0
        kind = getattr(
            transformers,
            f'AutoModel{"ForImageClassification" if num_classes else ""}',
        )
        assert kind.__name__ in exported.usage
        if version.parse(transformers.__version__) < version.parse('4.53'):
            with pytest.raises(RuntimeError, match='size mismatch'):
                kind.from_pretrained(tmp_path)
            return
        theirs = kind.from_pretrained(tmp_path).eval()
        key = 'logits' if num_classes else 'pooler_output'
        assert_same(module, lambda x: getattr(theirs(x), key), x)
        if num_classes:
            assert theirs.config.id2label == dict(enumerate(names))

    @pytest.mark.parametrize(('width', 'wide'), [(768, 1024), (1024, 768)])
    @pytest.mark.parametrize('norm_eps', [1e-5, 1e-6])
    def test_the_named_model_has_another_width(self, width, wide, norm_eps):
        arch = dict(width=width, depth=1, num_heads=2, mlp_width=8)
        changes = dict(out_type='avg_featmap', norm_eps=norm_eps, arch=arch)
        checkpoint, _ = make_checkpoint(CLIP_BACKBONE | changes, a=1)
        files = export_checkpoint(checkpoint, 'hf').files
        name = files['config.json']['architecture']
        with torch.device('meta'):
            model = timm.create_model(name)
        assert model.embed_dim == wide
        assert model.norm.eps == norm_eps

    def test_images_that_nobody_knows_how_to_prepare_are_said(self):
        backbone = CLIP_BACKBONE | dict(out_type='avg_featmap')
        exported = export_checkpoint(make_checkpoint(backbone, a=1)[0], 'hf')
        assert 'OTHER images' in '\n'.join(exported.notes)

    def test_images_that_are_known_in_part_are_said(self):
        backbone = CLIP_BACKBONE | dict(out_type='avg_featmap')
        known = dict(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
        checkpoint, _ = make_checkpoint(backbone, preprocess=known)
        exported = export_checkpoint(checkpoint, 'hf')
        pretrained = exported.files['config.json']['pretrained_cfg']
        assert known.items() <= pretrained.items()
        notes = '\n'.join(exported.notes)
        assert 'does not say interpolation, resize_mode' in notes

    def test_norms_that_timm_has_not_are_refused(self):
        changes = dict(out_type='avg_featmap', norm_eps=1e-3)
        checkpoint, _ = make_checkpoint(CLIP_BACKBONE | changes, a=1)
        with pytest.raises(CheckpointError, match=r'epsilon of 0\.001'):
            export_checkpoint(checkpoint, 'hf')

    def test_a_folder_is_written_whole_or_not_at_all(self, tmp_path):
        preprocess = dict(
            mean=[0.5] * 3,
            std=[0.5] * 3,
            interpolation='bicubic',
            resize_mode='shortest',
        )
        old, _ = make_checkpoint(
            CLIP_BACKBONE, preprocess=preprocess, img_size=32
        )
        write_export(export_checkpoint(old, 'hf'), tmp_path / 'out')
        before = contents(tmp_path / 'out')
        assert len(before) == 3
        new = export_checkpoint(make_checkpoint(SIGLIP_BACKBONE, a=1)[0], 'hf')
        broken = replace(new, state_dict=dict(a=None))
        with pytest.raises(AttributeError):
            write_export(broken, tmp_path / 'out')
        assert contents(tmp_path / 'out') == before
        write_export(new, tmp_path / 'out')
        # Without the other checkpoint's preprocessing.
        assert set(contents(tmp_path / 'out')) == {
            'config.json',
            'model.safetensors',
        }


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_weights_of_other_projects_are_refused(tiny_model):
    with pytest.raises(CheckpointError, match='openclip_to_mmcls'):
        export_checkpoint(tiny_model.model.state_dict(), 'timm')


def test_other_backbones_are_refused():
    checkpoint, _ = make_checkpoint(CLIP_BACKBONE, a=1)
    checkpoint['meta']['clip']['backbone'] = dict(type='ResNet', depth=50)
    with pytest.raises(
        CheckpointError, match=r"type must be one of .*'ResNet"
    ):
        export_checkpoint(checkpoint, 'timm')


def test_files_that_do_not_describe_themselves_are_sent_to_be_converted():
    checkpoint, _ = make_checkpoint(CLIP_BACKBONE)
    with pytest.raises(CheckpointError, match='Convert it first: python'):
        export_checkpoint(checkpoint, 'timm')


def test_a_checkpoint_of_another_backbone_is_refused():
    checkpoint, _ = make_checkpoint(CLIP_BACKBONE, a=1)
    arch = CLIP_BACKBONE['arch'] | dict(mlp_width=64)
    checkpoint['meta']['clip']['backbone'] = CLIP_BACKBONE | dict(arch=arch)
    with pytest.raises(CheckpointError, match=r'shape: layers\.0\.ffn'):
        export_checkpoint(checkpoint, 'timm')


def test_other_parts_are_not_dropped_silently():
    checkpoint, _ = make_checkpoint(CLIP_BACKBONE, a=1)
    checkpoint['state_dict']['neck.weight'] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r'holds neck\.weight'):
        export_checkpoint(checkpoint, 'timm')


@pytest.mark.parametrize('name', ['ViT-S-32', 'ViT-M-32-alt'])
def test_open_clip_itself_loads_a_whole_model(name, tmp_path):
    """Through create_model, as a user does."""
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
