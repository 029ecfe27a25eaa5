"""Hugging Face's folders come here, and ours go there."""

import json

import numpy as np
import pytest
import timm
import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS
from packaging import version
from PIL import Image
from safetensors.torch import save_file

from mmclip.analysis.parity import relative_difference
from mmclip.checkpoint import (
    CheckpointError,
    PretrainedCLIP,
    convert_source,
)
from mmclip.checkpoint.towers.export import export_checkpoint, write_export
from mmclip.checkpoint.towers.sources import convert_folder
from mmclip.checkpoint.towers.tower import SIGLIP, build_backbone
from mmclip.datasets import preprocessing
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_checkpoint.conftest import (
    CLIP_BACKBONE,
    SIGLIP_BACKBONE,
    SMALL,
    assert_same,
    feature,
    make_checkpoint,
    randomized,
)

transformers = pytest.importorskip('transformers')
PREPROCESS = dict(
    mean=[0.4, 0.5, 0.6],
    std=[0.25] * 3,
    interpolation='bicubic',
    resize_mode='shortest',
)


def vision_model(kind):
    """A small random image tower of transformers."""
    cfg = getattr(transformers, f'{kind}VisionConfig')(**SMALL)
    return randomized(getattr(transformers, f'{kind}VisionModel')(cfg))


def assert_converts(folder, theirs, key):
    """Compare a converted folder with the model that wrote it."""
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = theirs(x)
    wanted = getattr(wanted, key, wanted)
    checkpoint = convert_folder(folder)
    difference = relative_difference(feature(checkpoint, x), wanted)
    assert difference <= RELATIVE_TOLERANCE
    return checkpoint


class TestFromHuggingFace:
    """Folders that transformers writes."""

    @pytest.mark.parametrize('act', ['quick_gelu', 'gelu'])
    @pytest.mark.parametrize(
        ('name', 'key'),
        [
            ('CLIPVisionModel', 'pooler_output'),
            ('CLIPVisionModelWithProjection', 'image_embeds'),
        ],
    )
    def test_clip_vision_models(self, tmp_path, act, name, key):
        cfg = transformers.CLIPVisionConfig(
            **SMALL, hidden_act=act, projection_dim=24
        )
        model = randomized(getattr(transformers, name)(cfg))
        model.save_pretrained(tmp_path)
        if act == 'gelu':
            torch.save(model.state_dict(), tmp_path / 'pytorch_model.bin')
            (tmp_path / 'model.safetensors').unlink()
        checkpoint = assert_converts(tmp_path, model, key)
        backbone = build_backbone(checkpoint['meta']['clip']['backbone'])
        PretrainedCLIP(str(tmp_path)).load(checkpoint, backbone)
        assert checkpoint['meta']['clip']['backbone']['act'] == act

    @pytest.mark.parametrize('prefix', ['vision_model.', ''])
    def test_both_prefixes(self, tmp_path, prefix):
        model = vision_model('CLIP')
        model.save_pretrained(tmp_path)
        weights = {
            prefix + key.removeprefix('vision_model.'): tensor
            for key, tensor in model.state_dict().items()
        }
        # Older checkpoints carry the numbers of the positions.
        weights[f'{prefix}embeddings.position_ids'] = torch.arange(17)[None]
        save_file(weights, tmp_path / 'model.safetensors')
        assert_converts(tmp_path, model, 'pooler_output')

    def test_siglip(self, tmp_path):
        model = vision_model('Siglip')
        model.save_pretrained(tmp_path)
        checkpoint = assert_converts(tmp_path, model, 'pooler_output')
        assert checkpoint['meta']['clip']['backbone']['type'] == SIGLIP
        assert checkpoint['meta']['clip']['backbone']['act'] == 'gelu_tanh'

    @pytest.mark.skipif(
        not hasattr(transformers, 'MetaClip2VisionModel'),
        reason='transformers 4.57 or newer has it',
    )
    @pytest.mark.parametrize(
        ('name', 'key'),
        [
            ('MetaClip2VisionModel', 'pooler_output'),
            ('MetaClip2VisionModelWithProjection', 'image_embeds'),
        ],
    )
    def test_meta_clip_2(self, tmp_path, name, key):
        cfg = transformers.MetaClip2VisionConfig(
            **SMALL, hidden_act='gelu', projection_dim=24
        )
        model = randomized(getattr(transformers, name)(cfg))
        model.save_pretrained(tmp_path)
        checkpoint = assert_converts(tmp_path, model, key)
        assert checkpoint['meta']['clip']['backbone']['act'] == 'gelu'

    @pytest.mark.parametrize('kind', ['CLIP', 'Siglip', 'MetaClip2'])
    def test_whole_models(self, tmp_path, kind):
        if not hasattr(transformers, f'{kind}Model'):
            pytest.skip('transformers 4.57 or newer has it')
        text = SMALL | dict(num_hidden_layers=1, vocab_size=99)
        cfg = getattr(transformers, f'{kind}Config')(
            vision_config=SMALL, text_config=text, projection_dim=24
        )
        model = randomized(getattr(transformers, f'{kind}Model')(cfg))
        model.save_pretrained(tmp_path)
        assert_converts(tmp_path, model.get_image_features, 'pooler_output')

    def test_shards(self, tmp_path):
        model = vision_model('CLIP')
        model.save_pretrained(tmp_path, max_shard_size='30KB')
        assert (tmp_path / 'model.safetensors.index.json').exists()
        assert_converts(tmp_path, model, 'pooler_output')

    @pytest.mark.parametrize(
        ('kind', 'processor', 'resize_mode'),
        [
            (
                'CLIP',
                dict(
                    image_processor_type='CLIPImageProcessor',
                    do_center_crop=True,
                    size=dict(shortest_edge=32),
                ),
                'shortest',
            ),
            (
                'Siglip',
                # Nulls are defaults: transformers 4 wrote them.
                dict(
                    image_processor_type='SiglipImageProcessorFast',
                    do_center_crop=None,
                    crop_size=None,
                    size=dict(height=32, width=32, shortest_edge=None),
                ),
                'squash',
            ),
        ],
    )
    def test_preprocessing(self, tmp_path, kind, processor, resize_mode):
        vision_model(kind).save_pretrained(tmp_path)
        assert convert_folder(tmp_path)['meta']['clip']['preprocess'] is None
        known = dict(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
        (tmp_path / 'preprocessor_config.json').write_text(
            json.dumps(processor | known | dict(resample=2))
        )
        assert convert_folder(tmp_path)['meta']['clip']['preprocess'] == dict(
            mean=[0.1, 0.2, 0.3],
            std=[0.4, 0.5, 0.6],
            interpolation='bilinear',
            resize_mode=resize_mode,
        )

    # The last one's quotient times the edge is below the crop.
    @pytest.mark.parametrize(
        ('crop', 'edge'), [(32, 32), (32, 36), (224, 354)]
    )
    def test_images_larger_than_the_crop(self, tmp_path, crop, edge):
        vision_model('CLIP').save_pretrained(tmp_path)
        processor = transformers.CLIPImageProcessor(
            size=dict(shortest_edge=edge),
            crop_size=dict(height=crop, width=crop),
        )
        processor.save_pretrained(tmp_path)
        preprocess = convert_folder(tmp_path)['meta']['clip']['preprocess']
        resize = preprocessing.test_pipeline(preprocess, crop)[1]
        assert resize['scale'] == edge

    def test_a_tag_is_refused(self, tmp_path):
        config = tmp_path / 'config.json'
        config.write_text('{"model_type": "clip"}')
        with pytest.raises(
            CheckpointError, match='--tag openai does not apply'
        ):
            convert_source(str(config), str(tmp_path), 'openai')

    def test_other_models_are_refused(self, tmp_path):
        (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
        save_file(dict(a=torch.zeros(1)), tmp_path / 'model.safetensors')
        with pytest.raises(CheckpointError, match="type 'bert'"):
            convert_folder(tmp_path)


class TestToHuggingFace:
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
        words = exported.usage(tmp_path).split()
        kind = getattr(transformers, words[words.index('import') + 1])
        model, info = kind.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info.values()), info
        assert_same(module, lambda x: getattr(model.eval()(x), key))

    def test_preprocessing(self):
        preprocess = dict(
            PREPROCESS, mean=[0.5] * 3, std=[0.5] * 3, resize_mode='squash'
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
            PREPROCESS, mean=[0.0] * 3, std=[1.0] * 3, crop_pct=0.88
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
        preprocess = dict(PREPROCESS, resize_mode='squash', crop_pct=0.9)
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
        assert f'{kind.__name__}.from_' in exported.usage(tmp_path)
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

    def test_images_that_are_known_in_part_or_not_at_all_are_said(self):
        backbone = CLIP_BACKBONE | dict(out_type='avg_featmap')
        exported = export_checkpoint(make_checkpoint(backbone, a=1)[0], 'hf')
        assert 'images may DIFFER' in '\n'.join(exported.notes)
        known = dict(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
        checkpoint, _ = make_checkpoint(backbone, preprocess=known)
        exported = export_checkpoint(checkpoint, 'hf')
        pretrained = exported.files['config.json']['pretrained_cfg']
        assert known.items() <= pretrained.items()
        notes = '\n'.join(exported.notes)
        assert 'does not say their interpolation, resize_mode' in notes

    def test_norms_that_timm_has_not_are_refused(self):
        changes = dict(out_type='avg_featmap', norm_eps=1e-3)
        checkpoint, _ = make_checkpoint(CLIP_BACKBONE | changes, a=1)
        with pytest.raises(CheckpointError, match=r'epsilon of 0\.001'):
            export_checkpoint(checkpoint, 'hf')
