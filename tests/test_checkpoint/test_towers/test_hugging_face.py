"""Weights of Hugging Face transformers give the same outputs."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mmclip.analysis.parity import relative_difference
from mmclip.checkpoint import (
    CheckpointError,
    PretrainedCLIP,
    convert_source,
)
from mmclip.checkpoint.towers.sources import convert_folder
from mmclip.checkpoint.towers.tower import SIGLIP, build_backbone
from mmclip.datasets import preprocessing
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_checkpoint.conftest import SMALL, feature, randomized

transformers = pytest.importorskip('transformers')


class TestHuggingFace:
    """Folders that transformers writes."""

    @pytest.mark.parametrize('act', ['quick_gelu', 'gelu'])
    @pytest.mark.parametrize('safe', [True, False])
    def test_clip_vision_models(self, tmp_path, act, safe):
        cfg = transformers.CLIPVisionConfig(
            **SMALL, hidden_act=act, projection_dim=24
        )
        x = torch.randn(2, 3, 32, 32)
        for name, key in (
            ('CLIPVisionModel', 'pooler_output'),
            ('CLIPVisionModelWithProjection', 'image_embeds'),
        ):
            model = randomized(getattr(transformers, name)(cfg))
            folder = tmp_path / name
            model.save_pretrained(folder)
            if not safe:
                torch.save(model.state_dict(), folder / 'pytorch_model.bin')
                (folder / 'model.safetensors').unlink()
            with torch.no_grad():
                wanted = getattr(model(x), key)
            checkpoint = convert_folder(folder)
            ours = feature(checkpoint, x)
            assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE
            backbone = build_backbone(checkpoint['meta']['clip']['backbone'])
            PretrainedCLIP(str(folder)).load(checkpoint, backbone)
            assert checkpoint['meta']['clip']['backbone']['act'] == act

    @pytest.mark.parametrize('prefix', ['vision_model.', ''])
    def test_both_prefixes(self, tmp_path, prefix):
        model = randomized(
            transformers.CLIPVisionModel(
                transformers.CLIPVisionConfig(**SMALL)
            )
        )
        model.save_pretrained(tmp_path)
        weights = {
            prefix + key.removeprefix('vision_model.'): tensor
            for key, tensor in model.state_dict().items()
        }
        # Older checkpoints carry the numbers of the positions.
        weights[f'{prefix}embeddings.position_ids'] = torch.arange(17)[None]
        save_file(weights, tmp_path / 'model.safetensors')
        x = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            wanted = model(x).pooler_output
        ours = feature(convert_folder(tmp_path), x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    def test_siglip(self, tmp_path):
        cfg = transformers.SiglipVisionConfig(**SMALL)
        model = randomized(transformers.SiglipVisionModel(cfg))
        model.save_pretrained(tmp_path)
        x = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            wanted = model(x).pooler_output
        checkpoint = convert_folder(tmp_path)
        assert checkpoint['meta']['clip']['backbone']['type'] == SIGLIP
        assert checkpoint['meta']['clip']['backbone']['act'] == 'gelu_tanh'
        ours = feature(checkpoint, x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    @pytest.mark.parametrize('kind', ['CLIP', 'Siglip'])
    def test_whole_models(self, tmp_path, kind):
        text = dict(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            vocab_size=99,
        )
        cfg = getattr(transformers, f'{kind}Config')(
            vision_config=SMALL, text_config=text, projection_dim=24
        )
        model = randomized(getattr(transformers, f'{kind}Model')(cfg))
        model.save_pretrained(tmp_path)
        x = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            wanted = model.get_image_features(pixel_values=x)
            wanted = getattr(wanted, 'pooler_output', wanted)
        ours = feature(convert_folder(tmp_path), x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    def test_shards(self, tmp_path):
        model = randomized(
            transformers.CLIPVisionModel(
                transformers.CLIPVisionConfig(**SMALL)
            )
        )
        model.save_pretrained(tmp_path, max_shard_size='30KB')
        assert (tmp_path / 'model.safetensors.index.json').exists()
        assert (
            len(convert_folder(tmp_path)['state_dict'])
            == len(transformers.CLIPVisionModel(model.config).state_dict())
            - 2 * 2 * 2
        )  # q, k and v are one tensor here

    def test_preprocessing(self, tmp_path):
        randomized(
            transformers.CLIPVisionModel(
                transformers.CLIPVisionConfig(**SMALL)
            )
        ).save_pretrained(tmp_path)
        assert convert_folder(tmp_path)['meta']['clip']['preprocess'] is None
        (tmp_path / 'preprocessor_config.json').write_text(
            json.dumps(
                dict(
                    image_processor_type='CLIPImageProcessor',
                    do_center_crop=True,
                    image_mean=[0.1, 0.2, 0.3],
                    image_std=[0.4, 0.5, 0.6],
                    resample=2,
                    size=dict(shortest_edge=32),
                )
            )
        )
        assert convert_folder(tmp_path)['meta']['clip']['preprocess'] == dict(
            mean=[0.1, 0.2, 0.3],
            std=[0.4, 0.5, 0.6],
            interpolation='bilinear',
            resize_mode='shortest',
        )

    def test_nulls_of_a_preprocessor_are_its_defaults(self, tmp_path):
        """As transformers before version 5 wrote them."""
        model = transformers.SiglipVisionModel(
            transformers.SiglipVisionConfig(**SMALL)
        )
        model.save_pretrained(tmp_path)
        (tmp_path / 'preprocessor_config.json').write_text(
            json.dumps(
                dict(
                    image_processor_type='SiglipImageProcessorFast',
                    do_center_crop=None,
                    crop_size=None,
                    image_mean=[0.5] * 3,
                    image_std=[0.5] * 3,
                    resample=2,
                    size=dict(height=32, width=32, shortest_edge=None),
                )
            )
        )
        preprocess = convert_folder(tmp_path)['meta']['clip']['preprocess']
        assert preprocess['resize_mode'] == 'squash'
        assert preprocess['interpolation'] == 'bilinear'

    # The last one's quotient times the edge is below the crop.
    @pytest.mark.parametrize(
        ('crop', 'edge'), [(32, 32), (32, 36), (224, 354)]
    )
    def test_images_larger_than_the_crop(self, tmp_path, crop, edge):
        model = transformers.CLIPVisionModel(
            transformers.CLIPVisionConfig(**SMALL)
        )
        model.save_pretrained(tmp_path)
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
        with pytest.raises(CheckpointError, match='--tag openai is for files'):
            convert_source(str(config), str(tmp_path), 'openai')

    def test_other_models_are_refused(self, tmp_path):
        (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
        save_file(dict(a=torch.zeros(1)), tmp_path / 'model.safetensors')
        with pytest.raises(CheckpointError, match="type 'bert'"):
            convert_folder(tmp_path)
