"""OpenCLIPVisionTower: open_clip's own module as a backbone."""

import open_clip
import pytest
import torch
from mmengine.registry import MODELS

from mmclip.analysis.parity import make_twins
from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.checkpoint.towers.tower import OTHER
from mmclip.models import OpenCLIPVisionTower
from tests.conftest import names_of

# The wide convolutional towers, which cannot be cut to two blocks.
LARGE = ('xxlarge', 'xlarge', 'RN50x64', 'RN50x16', 'large', 'ViTamin-XL')
SMALLEST = [
    'RN50',
    'convnext_tiny',
    'ViTamin-S',
    'EVA02-B-16',
    'MobileCLIP-S1',
    'MobileCLIP-B',
    'PE-Core-T-16-384',
    'swin_base_patch4_window7_224',
    'vit_medium_patch16_gap_256',
    'vit_relpos_medium_patch16_cls_224',
]


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(
            name,
            marks=[pytest.mark.slow] if any(x in name for x in LARGE) else [],
        )
        for name in names_of(OTHER)
    ],
)
def test_every_name_gives_the_same_output(name):
    reference, backbone = make_twins(name, depth=2)
    size = find_tower(name, None).img_size
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        assert torch.equal(backbone(x)[0], reference(x))


@pytest.mark.parametrize('name', SMALLEST)
def test_feature_maps(name):
    backbone = OpenCLIPVisionTower(name, out_type='featmap').eval()
    size = find_tower(name, None).img_size
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, size, size))
        first = OpenCLIPVisionTower(
            name, out_type='featmap', out_indices=[0]
        ).eval()(torch.randn(1, 3, size, size))
    assert all(x.ndim == 4 and x.shape[2] == x.shape[3] for x in maps)
    strides = [size / x.shape[-1] for x in maps]
    assert strides == sorted(strides)
    assert [x.shape for x in first] == [maps[0].shape]


def test_two_lines_in_a_config():
    tower = MODELS.build(dict(type='mmclip.OpenCLIPVisionTower', model='RN50'))
    assert tower(torch.randn(2, 3, 224, 224))[0].shape == (2, 1024)


def test_a_model_config_of_ones_own():
    cfg = open_clip.get_model_config('convnext_tiny')
    cfg['embed_dim'] = 12
    tower = OpenCLIPVisionTower(cfg)
    assert tower(torch.randn(2, 3, 64, 64))[0].shape == (2, 12)


def test_frozen_keeps_the_statistics_of_batch_norms():
    tower = OpenCLIPVisionTower('RN50', frozen=True).train()
    before = {k: t.clone() for k, t in tower.state_dict().items()}
    tower(torch.randn(2, 3, 224, 224))
    assert not any(p.requires_grad for p in tower.parameters())
    for key, tensor in tower.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_unknown_names_and_arguments_are_refused():
    with pytest.raises(ValueError, match="no model 'RN51'"):
        OpenCLIPVisionTower('RN51')
    with pytest.raises(ValueError, match='out_type must be one of'):
        OpenCLIPVisionTower('RN50', out_type='raw')
    with pytest.raises(ValueError, match='out_indices is for'):
        OpenCLIPVisionTower('RN50', out_indices=[0])
