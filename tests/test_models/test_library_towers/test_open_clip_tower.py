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
    for indices in [2, 1], [1, 1], [-1, 0], []:
        with pytest.raises(ValueError, match='out_indices must increase'):
            small_resnet(out_type='featmap', out_indices=indices)


def small_resnet(**kwargs):
    vision_cfg = dict(layers=[1, 2, 1, 1], width=8, image_size=32)
    model = dict(embed_dim=16, vision_cfg=vision_cfg)
    return OpenCLIPVisionTower(model, **kwargs)


@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
def test_the_first_stages_of_a_resnet_are_frozen(frozen_stages):
    torch.manual_seed(0)
    tower = small_resnet(frozen_stages=frozen_stages).train()
    before = {k: t.clone() for k, t in tower.state_dict().items()}
    tower(torch.randn(2, 3, 32, 32))[0].sum().backward()
    stem = ('conv', 'bn')
    for name, tensor in tower.tower.state_dict().items():
        stage = 0 if name.startswith(stem) else 5
        stage = int(name[5]) if name.startswith('layer') else stage
        moved = not torch.equal(tensor, before[f'tower.{name}'])
        if 'running' in name:
            assert moved == (stage > frozen_stages), name
    for name, param in tower.tower.named_parameters():
        stage = 0 if name.startswith(stem) else 5
        stage = int(name[5]) if name.startswith('layer') else stage
        assert param.requires_grad == (stage > frozen_stages), name


@pytest.mark.parametrize(
    ('name', 'frozen', 'trained'),
    [
        (
            'convnext_tiny',
            {'trunk.stem.0.weight', 'trunk.stages.1.downsample.0.weight'},
            {'trunk.stages.2.downsample.0.weight', 'head.proj.weight'},
        ),
        pytest.param(
            'EVA02-B-16',
            {'trunk.cls_token', 'trunk.blocks.1.norm1.weight'},
            {'trunk.blocks.2.norm1.weight'},
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_the_first_stages_of_timms_towers_are_frozen(name, frozen, trained):
    tower = OpenCLIPVisionTower(name, frozen_stages=2).train()
    params = dict(tower.tower.named_parameters())
    assert not any(params[name].requires_grad for name in frozen)
    assert all(params[name].requires_grad for name in trained)


def test_batch_norms_keep_their_statistics():
    tower = small_resnet(norm_eval=True).train()
    before = {k: t.clone() for k, t in tower.state_dict().items()}
    tower(torch.randn(2, 3, 32, 32))
    for key, tensor in tower.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    assert all(p.requires_grad for p in tower.parameters())


def test_rates_decay_from_block_to_block():
    tower = small_resnet()
    wanted = {
        'conv1.weight': 0,
        'bn3.bias': 0,
        'layer1.0.conv1.weight': 1,
        'layer2.0.conv1.weight': 2,
        'layer2.1.bn1.weight': 3,
        'layer4.0.conv1.weight': 5,
        'attnpool.positional_embedding': 6,
    }
    for name, layer in wanted.items():
        found = tower.get_layer_depth(f'backbone.tower.{name}', 'backbone.')
        assert found == (layer, 7), name
    assert tower.get_layer_depth('head.fc.weight', 'backbone.') == (6, 7)


def test_too_many_frozen_stages_are_refused():
    with pytest.raises(
        ValueError, match=r'in \[-1, 4\] for this tower, got 5'
    ):
        small_resnet(frozen_stages=5)
