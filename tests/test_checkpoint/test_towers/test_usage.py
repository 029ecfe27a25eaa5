"""What the converters print can be pasted, and works."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmclip.checkpoint import write_checkpoint
from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.checkpoint.towers.tower import build_backbone
from mmclip.checkpoint.towers.usage import config_lines, images, other_uses


@pytest.fixture
def converted(converted, tmp_path):
    write_checkpoint(converted[0], tmp_path / 'out.pth')
    return converted[0]['meta']['clip'], tmp_path / 'out.pth'


def paste(lines, **more):
    return eval(f'dict({lines})') | more


def test_a_classifier(converted):
    model = paste(config_lines(*converted), type='ImageClassifier')
    mean = [255 * value for value in converted[0]['preprocess']['mean']]
    assert model['data_preprocessor']['mean'] == pytest.approx(mean)
    head = dict(type='LinearClsHead', num_classes=3, in_channels=32)
    init_default_scope('mmpretrain')
    classifier = MODELS.build(model | dict(head=head))
    classifier.init_weights()
    images = dict(
        inputs=[torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)]
    )
    inputs = classifier.data_preprocessor(images)['inputs']
    assert classifier(inputs).shape == (1, 3)


def test_maps_of_one_width(converted):
    backbone = paste(config_lines(*converted))['backbone']
    assert "add out_type='featmap' and out_indices" in other_uses(converted[0])
    init_default_scope('mmpretrain')
    maps = MODELS.build(
        backbone | dict(out_type='featmap', out_indices=[0, 1])
    )
    maps.init_weights()
    shapes = {tuple(x.shape) for x in maps(torch.zeros(1, 3, 32, 32))}
    assert shapes == {(1, 32, 4, 4)}


def test_clips_embedding(converted):
    backbone = paste(config_lines(*converted))['backbone']
    assert other_uses(converted[0]).endswith('add proj_dim=24 to the backbone')
    init_default_scope('mmpretrain')
    tower = MODELS.build(backbone | dict(proj_dim=24))
    tower.init_weights()
    assert tower(torch.zeros(1, 3, 32, 32))[0].shape == (1, 24)


def test_a_zero_shot_head_has_the_projection(converted):
    clip, path = converted
    head = dict(type='mmclip.ZeroShotClsHead', num_classes=3, in_channels=24)
    model = paste(config_lines(clip | dict(head=head), path))
    assert model['head'] == head
    assert model['backbone']['proj_dim'] == 24


@pytest.mark.parametrize(
    ('name', 'line'),
    [
        ('ViT-L-14-336', "arch='large'"),
        ('RN50', "model='RN50'"),
        ('coca_ViT-B-32', 'proj_dim=512'),
        ('ViT-B-16-SigLIP', "pool='attention'"),
    ],
)
def test_towers_of_all_kinds(name, line):
    tower = find_tower(name, None)
    clip = dict(
        backbone=tower.backbone,
        preprocess=tower.preprocess,
        source=dict(name=name),
    )
    lines = config_lines(clip, 'x.pth')
    assert line in lines
    build_backbone(paste(lines)['backbone'] | dict(init_cfg=None), 'meta')


def test_what_is_not_known_is_not_printed(converted):
    clip = converted[0] | dict(preprocess=None)
    assert images(clip) == 'unknown'
    assert 'data_preprocessor' not in config_lines(clip, 'x.pth')
