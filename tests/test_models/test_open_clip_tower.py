"""OpenCLIPVisionTower: open_clip's own module as a backbone."""

import open_clip
import pytest
import torch
from mmengine.registry import MODELS

from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.models import OpenCLIPVisionTower


@pytest.mark.parametrize(
    'name',
    ['convnext_tiny', pytest.param('RN50', marks=pytest.mark.slow)]
    + [
        pytest.param(name, marks=pytest.mark.exhaustive)
        for name in (
            'EVA02-B-16',
            'MobileCLIP-B',
            'MobileCLIP-S1',
            'PE-Core-T-16-384',
            'ViTamin-S',
            'swin_base_patch4_window7_224',
            'vit_medium_patch16_gap_256',
            'vit_relpos_medium_patch16_cls_224',
        )
    ],
)
def test_feature_maps(name):
    tower = OpenCLIPVisionTower(name, out_type='featmap').eval()
    size = find_tower(name, None).img_size
    with torch.no_grad():
        maps = tower(torch.randn(1, 3, size, size))
    assert all(x.ndim == 4 and x.shape[2] == x.shape[3] for x in maps)
    strides = [size / x.shape[-1] for x in maps]
    assert strides == sorted(strides)


def test_a_feature_map_of_ones_choice():
    tower = OpenCLIPVisionTower(
        'convnext_tiny', out_type='featmap', out_indices=[0]
    )
    (found,) = tower(torch.randn(1, 3, 64, 64))
    assert found.shape == (1, 96, 16, 16)


def test_two_lines_in_a_config():
    tower = MODELS.build(dict(type='mmclip.OpenCLIPVisionTower', model='RN50'))
    assert tower(torch.randn(1, 3, 224, 224))[0].shape == (1, 1024)


def test_a_model_config_of_ones_own():
    cfg = open_clip.get_model_config('convnext_tiny')
    cfg['embed_dim'] = 12
    tower = OpenCLIPVisionTower(cfg)
    assert tower(torch.randn(2, 3, 64, 64))[0].shape == (2, 12)


def test_frozen_keeps_the_statistics_of_batch_norms():
    vision_cfg = dict(layers=[1, 1, 1, 1], width=8, image_size=32)
    model = dict(embed_dim=16, vision_cfg=vision_cfg)
    tower = OpenCLIPVisionTower(model, frozen=True).train()
    before = {k: t.clone() for k, t in tower.state_dict().items()}
    tower(torch.randn(2, 3, 32, 32))
    assert not any(p.requires_grad for p in tower.parameters())
    for key, tensor in tower.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_unknown_names_and_arguments_are_refused():
    with pytest.raises(ValueError, match="no model 'RN51'"):
        OpenCLIPVisionTower('RN51')
    with pytest.raises(ValueError, match='out_type must be one of'):
        OpenCLIPVisionTower('RN50', out_type='raw')
    with pytest.raises(ValueError, match='out_indices needs'):
        OpenCLIPVisionTower('RN50', out_indices=[0])
