"""Zero-shot segmentation in mmsegmentation, from names to results."""

import re

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg import models as mmseg_models

from mmclip.errors import CheckpointError
from mmclip.segmentation.scores import (
    class_scores,
    enlarge_and_choose,
    name_logits,
)
from mmclip.segmentation.sliding import slide
from tests.conftest import save_whole_model
from tests.downstream.shrunken import CONFIGS

CLASS_OF = torch.tensor([0, 0, 1, 1, 2, 3])


@pytest.mark.parametrize(('background', 'threshold'), [(None, 0.0), (0, 0.4)])
@torch.no_grad()
def test_the_zero_shot_head_is_our_own_functions(background, threshold, ran):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = mmseg_models.build_segmentor(
        dict(
            type='EncoderDecoder',
            backbone=tower(),
            decode_head=dict(
                type='mmclip.ZeroShotSegHead',
                in_channels=24,
                num_classes=4,
                num_names=6,
                background=background,
                threshold=threshold,
            ),
            test_cfg=ConfigDict(
                mode='slide', crop_size=(32, 32), stride=(16, 16)
            ),
        )
    ).eval()
    head = model.decode_head
    torch.nn.init.normal_(head.fc.weight, std=4.0)
    head.class_of.copy_(CLASS_OF)
    image = torch.randn(1, 3, 50, 71)
    metas = [dict(img_shape=(50, 71), ori_shape=(50, 71))]
    found = model.inference(image, metas)

    def scores(window):
        (x,) = model.backbone(window)
        logits = name_logits(x, head.fc.weight, head.fc.bias)
        logits = F.interpolate(logits, (32, 32), mode='bilinear')
        return class_scores(logits, CLASS_OF, 4, background, threshold)

    wanted = slide(image, scores, (32, 32), (16, 16))
    torch.testing.assert_close(found, wanted)
    labels = found.argmax(1)[0]
    assert torch.equal(labels, enlarge_and_choose(wanted, (50, 71)))
    assert len(labels.unique()) > 1
    ran('mmseg', 'zero-shot head', "slide equals mmclip.segmentation's")


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(threshold=0.5), 'threshold needs background'),
        (dict(background=4), 'one of the 4 classes, got 4'),
        (dict(background=0, threshold=5), 'must be in 0..1, got 5'),
        (dict(num_classes=2, out_channels=1), 'must be num_classes'),
    ],
)
def test_wrong_arguments_of_the_zero_shot_head(settings, said):
    init_default_scope('mmseg')
    head = dict(type='mmclip.ZeroShotSegHead', in_channels=24, num_classes=4)
    with pytest.raises(ValueError, match=said):
        mmseg_models.build_head(head | settings)


@pytest.mark.parametrize(
    ('class_of', 'said'),
    [
        ([0, 1, 2], 'num_classes of the head is 4'),
        ([0, 1, 4], 'num_classes of the head is 4'),
        ([-1, 1, 3], 'num_classes of the head is 4'),
        ([0, 1, 2, 3], 'the head 3: set num_names=4'),
    ],
)
def test_the_zero_shot_head_refuses_other_classes(class_of, said):
    init_default_scope('mmseg')
    head = mmseg_models.build_head(
        dict(
            type='mmclip.ZeroShotSegHead',
            in_channels=24,
            num_classes=4,
            num_names=3,
        )
    )
    state_dict = head.state_dict() | dict(class_of=torch.tensor(class_of))
    with pytest.raises(CheckpointError, match=said):
        head.load_state_dict(state_dict)


@torch.no_grad()
def test_the_zero_shot_head_knows_padding():
    """In one piece, padded logits are enlarged to the padded image."""
    init_default_scope('mmseg')
    head = mmseg_models.build_head(
        dict(type='mmclip.ZeroShotSegHead', in_channels=24, num_classes=4)
    )
    metas = [dict(img_shape=(50, 71), pad_shape=(56, 72))]
    scores = head.predict((torch.randn(1, 24, 7, 9),), metas, None)
    assert scores.shape == (1, 4, 56, 72)
    with pytest.raises(NotImplementedError, match='is for testing'):
        head.loss_by_feat(scores, [])


def tower():
    return dict(
        type='mmclip.CLIPVisionTransformer',
        arch=dict(width=32, depth=2, num_heads=2, mlp_width=128),
        act='quick_gelu',
        img_size=32,
        patch_size=8,
        proj_dim=24,
        out_type='featmap',
        dense='sclip',
    )


ZERO_SHOT = """
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, width=32, depth=2, num_heads=2, mlp_width=128
        ),
        img_size=32, patch_size=8, proj_dim=24,
    ),
    decode_head=dict(in_channels=24),
    test_cfg=dict(crop_size=(32, 32), stride=(16, 16)),
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (256, 48)
test_dataloader['dataset']['pipeline'] = test_pipeline
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [test_pipeline[1]]
"""
DATA_SETS = {
    'ade20k': ('ade20k', 'ade/ADEChallengeData2016/images/validation/0.jpg'),
    'voc12': ('voc', 'VOCdevkit/VOC2012/JPEGImages/val0.jpg'),
    'cityscapes': (
        'cityscapes',
        'cityscapes/leftImg8bit/val/town/town_000000_leftImg8bit.png',
    ),
}


@pytest.mark.parametrize('name', DATA_SETS)
def test_zero_shot_from_names_to_miou(name, run, ran):
    """With a small random CLIP; the whole way of the config's docstring."""
    file, image = DATA_SETS[name]
    config = f'clip-b16_zeroshot_{name}'
    small = run(f'mmseg/{config}', ZERO_SHOT)
    said = make_segmenter(small, CONFIGS / 'mmseg' / 'names' / f'{file}.txt')
    cfg = Config.fromfile(small.config).model
    printed = said.partition('as:\n')[2].partition('wrote')[0]
    model = eval(f'dict({printed})')  # is the model of the config
    head = model['decode_head']
    assert head['num_classes'] == cfg.decode_head.num_classes
    assert head['num_names'] == cfg.decode_head.get(
        'num_names', cfg.decode_head.num_classes
    )
    assert model['test_cfg'] == cfg.test_cfg
    init_default_scope('mmseg')
    mmseg_models.build_segmentor(ConfigDict(model))
    for tool in ('mmclip', 'mmseg'):
        log = small.test('segmenter.pth', '--work-dir', tool, tool=tool)
        assert re.search(r'mIoU: \d', log)
    small.test('segmenter.pth', '--tta')
    found = small('-c', MAP.format(image=f'data/{image}'))
    assert 'labels (96, 130)' in found
    ran(
        'mmseg',
        config,
        'mmclip zero-shot --segmenter, test with ours and theirs, --tta',
    )
    ran('mmseg', config, 'MMSegInferencer with out_dir, no import of mmclip')


MAP = """
from mmseg.apis import MMSegInferencer
infer = MMSegInferencer('small.py', 'segmenter.pth', device='cpu')
found = infer({image!r}, out_dir='drawn')
print('labels', found['predictions'].shape)
"""


def test_names_in_another_order_than_the_labels_are_refused(run, ran):
    small = run('mmseg/clip-b16_zeroshot_ade20k', ZERO_SHOT)
    names = (CONFIGS / 'mmseg' / 'names' / 'ade20k.txt').read_text()
    first, second, *others = names.splitlines()
    turned = '\n'.join([second, first, *others])
    (small.folder / 'names.txt').write_text(turned)
    make_segmenter(small, 'names.txt')
    with pytest.raises(AssertionError, match="'wall' is number 0 in one and"):
        small.test('segmenter.pth')
    ran('mmseg', 'zero-shot head', 'names in another order are refused')


def make_segmenter(small, names):
    """Write ``segmenter.pth`` of a random CLIP, and return what is printed."""
    vision = dict(layers=2, width=32, head_width=16)
    vision |= dict(patch_size=8, image_size=32)
    save_whole_model(small.folder, vision_cfg=vision)
    (small.folder / 'texts.txt').write_text('a {}')
    return small(
        *('-m', 'mmclip', 'zero-shot', 'open_clip_config.json'),
        *('open_clip_model.safetensors', 'segmenter.pth', '--segmenter'),
        *('--classes', names, '--templates', 'texts.txt'),
    )


@pytest.mark.parametrize('data_set', ['ade20k', 'voc', 'cityscapes'])
def test_the_names_are_in_the_order_of_the_labels(data_set):
    from mmseg.utils import get_classes

    names = (CONFIGS / 'mmseg' / 'names' / f'{data_set}.txt').read_text()
    firsts = [
        line.split('|')[0].replace(' ', '') for line in names.splitlines()
    ]
    wanted = [name.replace(' ', '') for name in get_classes(data_set)]
    assert firsts == wanted
