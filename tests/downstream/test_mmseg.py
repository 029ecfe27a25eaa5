"""Backbones in mmsegmentation, as users meet them."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmseg import models as mmseg_models
from mmseg.utils import get_classes

LINEAR = 'mmseg/clip-b16_linear-probe_ade20k-512'
UPERNET = 'mmseg/clip-b16_upernet_ade20k-512'
# Small images and a rate at which weights move, for runs that are compared.
QUICK = """
model['data_preprocessor'] = dict(size=(64, 64))
train_pipeline = [dict(type='mmclip.SeedSample'), *_base_.train_pipeline[1:]]
train_pipeline[3].scale = (256, 64)
train_pipeline[4].crop_size = (64, 64)
train_dataloader['dataset'] = dict(pipeline=train_pipeline)
model['test_cfg'] = dict(_delete_=True, mode='whole')
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (256, 64)
val_dataloader['dataset'] = dict(indices=2, pipeline=test_pipeline)
test_dataloader['dataset'] = dict(indices=2, pipeline=test_pipeline)
param_scheduler = [dict(type='ConstantLR', factor=1.0, end=99, by_epoch=False)]
optim_wrapper = dict(optimizer=dict(lr=1e-2))
train_cfg = dict(max_iters=4, val_interval=4)
"""
EMA = "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n"
PRECISIONS = {
    'bf16 with EMA': EMA,
    'fp32 with_cp': (
        "optim_wrapper['type'] = 'OptimWrapper'\ntower['with_cp'] = True\n"
    ),
}


@pytest.mark.parametrize('precision', PRECISIONS)
def test_a_resumed_run_is_the_same(precision, run, ran):
    small = run(UPERNET, QUICK + PRECISIONS[precision])
    whole, moved = small.resumes('iter', 2, 4)
    assert len(moved) > len(whole) / 2  # they had something to do
    compared = f'exact resume, {precision}: 0 of {len(whole)} tensors differ'
    ran('mmseg', 'UPerNet', compared)


def test_what_is_frozen_stays(run, ran):
    small = run(LINEAR, QUICK)
    small.train('--work-dir', 'work')
    first, last = (
        small.load(f'work/iter_{i}.pth')['state_dict'] for i in (2, 4)
    )
    changed = {k for k in first if not torch.equal(first[k], last[k])}
    assert changed == {
        'decode_head.conv_seg.weight',
        'decode_head.conv_seg.bias',
    }
    ran('mmseg', 'linear probe', 'frozen backbone')


def test_classes_in_another_order_than_in_training_are_refused(run):
    small = run(LINEAR, QUICK)
    small.train('--work-dir', 'work')
    names = list(get_classes('ade20k'))
    names[:2] = names[1::-1]
    turned = f'dict(metainfo=dict(classes={names}))'
    with small.config.open('a') as file:
        file.write(f"test_dataloader['dataset'] = {turned}")
    with pytest.raises(AssertionError, match='numbered differently'):
        small.test('work/iter_4.pth')


def test_pictures_mirror_images_and_amp(run, ran):
    small = run(LINEAR, QUICK)
    small.train('--work-dir', 'work', '--amp')
    for option in (
        ('--tta',),
        ('--amp',),
        ('--show-dir', 'pictures'),
        ('--out', 'metrics.json', '--out-item', 'metrics'),
    ):
        small.test('work/iter_4.pth', *option)
    assert len([*small.folder.glob('pictures/**/*.png')]) == 2
    assert 'mIoU' in json.loads((small.folder / 'metrics.json').read_text())
    ran('mmseg', 'linear probe', 'train --amp')
    ran('mmseg', 'linear probe', 'test --tta, --amp, --show-dir, --out')


INFER = """
from mmseg.apis import MMSegInferencer  # and nothing of mmclip
infer = MMSegInferencer('small.py', 'work/iter_4.pth', device='cpu')
found = infer('data/ade/ADEChallengeData2016/images/validation/0.jpg')
print('labels', found['predictions'].shape, found['predictions'].max())
"""


PLAIN = """
default_hooks['checkpoint'] = dict(type='CheckpointHook', interval=2)
"""


def test_the_inferencer(run, ran):
    """Of a checkpoint that is mmengine's own, by custom_imports."""
    small = run(LINEAR, QUICK + PLAIN)
    small.train('--work-dir', 'work', tool='mmseg')
    assert 'labels (96, 130)' in small('-c', INFER)
    inferred = 'MMSegInferencer, checkpoint of CheckpointHook'
    ran('mmseg', 'linear probe', inferred)


@pytest.fixture
def segmentor():
    """A small one whose tests pad images to whole patches."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return mmseg_models.build_segmentor(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor',
                test_cfg=dict(size_divisor=14),
            ),
            backbone=dict(
                type='mmclip.CLIPVisionTransformer',
                arch=dict(width=32, depth=2, num_heads=2, mlp_width=64),
                act='quick_gelu',
                img_size=56,
                patch_size=14,
                out_type='featmap',
            ),
            decode_head=dict(
                type='FCNHead',
                in_channels=32,
                in_index=0,
                channels=32,
                num_convs=0,
                concat_input=False,
                num_classes=5,
            ),
            train_cfg=dict(),
            test_cfg=ConfigDict(mode='whole'),
        )
    ).eval()


@torch.no_grad()
def test_images_of_any_size_are_padded_to_whole_patches(segmentor, ran):
    from mmseg.structures import SegDataSample

    height, width = 50, 71
    image = torch.randint(0, 255, (3, height, width), dtype=torch.uint8)
    sample = SegDataSample(
        metainfo=dict(ori_shape=(height, width), img_shape=(height, width))
    )
    (found,) = segmentor.test_step(dict(inputs=[image], data_samples=[sample]))
    padded = F.pad(image.float(), (0, 84 - width, 0, 56 - height))[None]
    (x,) = segmentor.backbone(padded)
    head = segmentor.decode_head.conv_seg
    logits = F.interpolate(head(x), (56, 84), mode='bilinear')
    wanted = logits[..., :height, :width]
    torch.testing.assert_close(found.seg_logits.data[None], wanted)
    ran('mmseg', 'EncoderDecoder', 'sizes that are not a multiple, padded')


NAMES_IN_SAN = {
    'ln_pre.': 'pre_norm.',
    'attn.attn.in_proj_': 'attn.qkv.',
    'attn.attn.out_proj.': 'attn.proj.',
}


@torch.no_grad()
def test_the_encoder_of_san_is_ours_under_other_names(ran):
    """As docs/mmseg.md has it; its blocks are the first of the encoder."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    path = 'configs/san/san-vit-b16_coco-stuff164k-640x640.py'
    package = Path(mmseg_models.__file__).parents[1]
    san = Config.fromfile(package / '.mim' / path).model.image_encoder
    assert san.pop('frozen_exclude') == ['pos_embed']
    assert san.pop('out_origin')
    san.update(type='mmseg.VisionTransformer', embed_dims=48, num_heads=2)
    theirs = MODELS.build(san)
    theirs.eval()  # returns nothing
    for param in theirs.parameters():
        torch.nn.init.normal_(param, std=0.1)
    ours = MODELS.build(
        dict(
            type='mmclip.CLIPVisionTransformer',
            arch=dict(width=48, depth=9, num_heads=2, mlp_width=192),
            act='quick_gelu',
            out_type='featmap',
            out_indices=(2, 5, 8),
            norm_outputs='none',
            output_cls_token=True,
        )
    ).eval()
    state_dict = theirs.state_dict()
    for old, new in NAMES_IN_SAN.items():
        state_dict = {k.replace(old, new): v for k, v in state_dict.items()}
    missing = ours.load_state_dict(state_dict, strict=False)
    assert missing.missing_keys == ['ln1.weight', 'ln1.bias']
    assert not missing.unexpected_keys
    image = torch.randn(2, 3, 224, 224)
    for wanted, found in zip(theirs(image), ours(image), strict=True):
        torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-4, atol=1e-4)
    ran('mmseg', 'SAN', 'its image encoder under our names: the same maps')
