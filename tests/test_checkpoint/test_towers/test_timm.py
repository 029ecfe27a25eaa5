"""timm's files come here, and ours go there."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from mmclip.analysis.parity import randomize, relative_difference
from mmclip.checkpoint import CheckpointError, convert_source
from mmclip.checkpoint.towers.export import export_checkpoint
from mmclip.checkpoint.towers.timm import find_timm_tower, timm_arguments
from mmclip.checkpoint.towers.tower import CLIP, ZERO_SHOT, build_backbone
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_checkpoint.conftest import (
    CLIP_BACKBONE,
    SIGLIP_BACKBONE,
    assert_same,
    feature,
    make_checkpoint,
    shrink_timm,
)

CLIP_TAGS = [
    name
    for name in timm.list_pretrained('vit_*')
    if '_clip_' in name.partition('.')[0]
]


@pytest.fixture
def small(monkeypatch):
    shrink_timm(monkeypatch)


@pytest.fixture
def path(tmp_path):
    """Of a file in which almost nothing is."""
    save_file(dict(a=torch.zeros(1)), tmp_path / 'x.safetensors')
    return str(tmp_path / 'x.safetensors')


@pytest.mark.usefixtures('small')
class TestFromTimm:
    """With the meaning of their heads."""

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
    def test_towers(self, path, name):
        model = timm.create_model(name)
        randomize(model)
        for key, parameter in model.named_parameters():
            if key.endswith('fc1.weight'):  # or activations are alike
                parameter.data *= 6
        if model.num_classes:
            nn.init.zeros_(model.head.bias)
        save_file(model.state_dict(), path)
        checkpoint, conversion = convert_source(name, path, 'none')
        assert conversion.dialect.name == 'timm'
        size = checkpoint['meta']['clip']['img_size']
        x = torch.randn(1, 3, size, size)
        with torch.no_grad():
            wanted = model.eval()(x)
        ours = feature(checkpoint, x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE
        backbone = checkpoint['meta']['clip']['backbone']
        is_exact = backbone['act'] == 'gelu'
        backbone['act'] = 'gelu_tanh' if is_exact else 'gelu'
        wrong = feature(checkpoint, x)
        assert relative_difference(wrong, wanted) > RELATIVE_TOLERANCE

    def test_a_classifier(self, path):
        name = 'vit_base_patch32_clip_224'
        model = timm.create_model(name, num_classes=1000).eval()
        randomize(model)
        save_file(model.state_dict(), path)
        for tag in ('none', 'laion2b_ft_in12k_in1k'):
            checkpoint, _ = convert_source(name, path, tag)
            assert 'proj_dim' not in checkpoint['meta']['clip']['backbone']
            x = torch.randn(1, 3, 224, 224)
            head = nn.Linear(64, 1000)
            head.load_state_dict(
                {
                    key: checkpoint['state_dict'][f'head.fc.{key}']
                    for key in ('weight', 'bias')
                }
            )
            with torch.no_grad():
                ours, wanted = head(feature(checkpoint, x)), model(x)
            assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    def test_a_projection_with_a_bias_is_no_plain_clip(self, path):
        model = timm.create_model('vit_base_patch32_clip_224.openai')
        nn.init.ones_(model.head.bias)
        save_file(model.state_dict(), path)
        with pytest.raises(CheckpointError, match='projection has a bias'):
            convert_source('vit_base_patch32_clip_224', path, 'laion2b')

    def test_gelu_names_of_quickgelu_weights_are_refused(self):
        with pytest.raises(
            CheckpointError, match='Use vit_large_patch14_clip_quickgelu_336'
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

    @pytest.mark.parametrize(
        ('size', 'tag', 'message'),
        [
            (224, None, 'Pass --tag'),  # activations differ
            (384, None, 'differ in preprocessing'),
            (384, 'none', 'are not those of a CLIP'),
        ],
    )
    def test_a_file_needs_a_tag_where_tags_differ(
        self, path, size, tag, message
    ):
        with pytest.raises(CheckpointError, match=message):
            convert_source(f'vit_base_patch32_clip_{size}', path, tag)

    def test_unknown_tags_get_the_known(self):
        with pytest.raises(CheckpointError, match=r'its tags: .*laion2b'):
            find_timm_tower('vit_base_patch32_clip_224', 'laion2')


class TestToTimm:
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
        self.assert_loads(*make_checkpoint(CLIP_BACKBONE | changes, a=1))

    @pytest.mark.parametrize(
        ('backbone', 'num_classes'),
        [
            (SIGLIP_BACKBONE | dict(pool='attention'), None),
            (SIGLIP_BACKBONE | dict(pool='avg'), None),
            (CLIP_BACKBONE, 5),
        ],
    )
    def test_siglip_and_a_classifier(self, backbone, num_classes):
        self.assert_loads(*make_checkpoint(backbone, num_classes, a=1))

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

    @pytest.mark.parametrize(
        ('backbone', 'num_classes', 'message'),
        [
            (CLIP_BACKBONE | dict(pool='avg'), None, 'timm cannot hold'),
            (
                CLIP_BACKBONE | dict(pool='attention', proj_dim=8),
                None,
                'timm cannot hold',
            ),
            (CLIP_BACKBONE | dict(pre_norm=False), None, 'timm cannot hold'),
            (SIGLIP_BACKBONE, 5, 'mmclip adapt IMAGES --method linear_probe'),
            (CLIP_BACKBONE | dict(proj_dim=32), 5, 'both a projection and'),
        ],
    )
    def test_what_timm_cannot_hold_is_refused(
        self, backbone, num_classes, message
    ):
        checkpoint, _ = make_checkpoint(backbone, num_classes, a=1)
        if backbone is SIGLIP_BACKBONE:
            checkpoint['meta']['clip']['head'] = dict(type=ZERO_SHOT)
        with pytest.raises(CheckpointError, match=message):
            export_checkpoint(checkpoint, 'timm')
