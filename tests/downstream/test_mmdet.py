"""Backbones and the pyramid in mmdetection, as users meet them."""

import pytest
import torch

RETINANET = 'mmdet/clip-b16_retinanet_coco-1024'
# Small images and a rate at which weights move, for runs that are compared.
QUICK = """
model['data_preprocessor'] = dict(pad_size_divisor=32)
train_pipeline = [dict(type='mmclip.SeedSample'), *_base_.train_pipeline[1:]]
train_pipeline[3].scale = (96, 96)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (96, 96)
train_dataloader['dataset'] = dict(pipeline=train_pipeline)
val_dataloader['dataset'] = dict(indices=2, pipeline=test_pipeline)
test_dataloader['dataset'] = dict(indices=2, pipeline=test_pipeline)
param_scheduler = [dict(type='ConstantLR', factor=1.0, end=99, by_epoch=False)]
train_cfg = dict(max_epochs=2, val_interval=2)
"""
EMA = "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n"
BF16 = "optim_wrapper = dict(type='mmclip.BFloat16OptimWrapper')\n"
VARIANTS = {
    'bf16 with EMA': EMA + BF16,
    'fp32 with_cp, frozen to block 6': (
        "tower['with_cp'] = True\ntower['frozen_stages'] = 6\n"
    ),
}


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_resumed_run_is_the_same(variant, run, ran):
    small = run(RETINANET, QUICK + VARIANTS[variant])
    whole, moved = small.resumes('epoch', 1, 2)
    layers = [k for k in moved if k.startswith('.state_dict.backbone.layers')]
    is_frozen = 'frozen' in variant
    assert {int(k.split('.')[4]) for k in layers} == set(
        range(6 if is_frozen else 0, 12)
    )
    compared = f'exact resume, {variant}: 0 of {len(whole)} tensors differ'
    ran('mmdet', 'RetinaNet', compared)


INFER = """
from mmdet.apis import DetInferencer  # and nothing of mmclip
infer = DetInferencer('small.py', 'work/epoch_2.pth', device='cpu')
found = infer('data/coco/val2017/000000000000.jpg', no_save_pred=True)
print('boxes of', len(found['predictions'][0]['bboxes'][0]), 'numbers')
"""


def test_inferencer_pictures_and_amp(run, ran):
    small = run(RETINANET, QUICK)
    small.train('--work-dir', 'work', '--amp')
    assert 'boxes of 4 numbers' in small('-c', INFER)
    ran('mmdet', 'RetinaNet', 'DetInferencer without importing mmclip')
    small.test('work/epoch_2.pth', '--show-dir', 'pictures')
    assert len([*small.folder.glob('pictures/**/*.jpg')]) == 2
    small.test('work/epoch_2.pth', '--out', 'boxes.pkl')
    assert (small.folder / 'boxes.pkl').is_file()
    ran('mmdet', 'RetinaNet', 'train --amp; test --show-dir, --out')


@torch.no_grad()
@pytest.mark.parametrize('size', [(96, 130), (100, 77)])
def test_images_of_any_size_are_padded_to_whole_patches(size, ran):
    """The pyramid's strides are exact on what the preprocessor pads."""
    from mmdet.registry import MODELS

    height, width = size
    preprocessor = MODELS.build(
        dict(type='DetDataPreprocessor', pad_size_divisor=16)
    )
    from mmdet.structures import DetDataSample

    data = dict(
        inputs=[torch.zeros(3, height, width, dtype=torch.uint8)],
        data_samples=[DetDataSample(metainfo=dict(img_shape=size))],
    )
    x = preprocessor(data)['inputs']
    backbone = MODELS.build(
        dict(
            type='mmclip.CLIPVisionTransformer',
            arch=dict(width=32, depth=2, num_heads=2, mlp_width=64),
            act='quick_gelu',
            img_size=64,
            out_type='featmap',
            window_size=2,
            global_blocks=[1],
        )
    )
    neck = MODELS.build(
        dict(
            type='mmclip.SimpleFeaturePyramid', in_channels=32, out_channels=8
        )
    )
    levels = neck(backbone(x))
    rows, columns = -(-height // 16) * 4, -(-width // 16) * 4
    for i, level in enumerate(levels[:3]):
        assert level.shape == (1, 8, rows >> i, columns >> i)
    assert len(levels) == 5
    ran('mmdet', 'SimpleFeaturePyramid', 'sizes that are not a multiple')


@torch.no_grad()
def test_the_stages_of_a_resnet(ran):
    from mmdet.registry import MODELS

    tower = dict(
        type='mmclip.OpenCLIPVisionTower',
        model=dict(
            embed_dim=16,
            vision_cfg=dict(layers=[1, 1, 1, 1], width=8, image_size=64),
            text_cfg=dict(),
        ),
        out_type='featmap',
        frozen_stages=1,
        norm_eval=True,
    )
    image = torch.randn(1, 3, 64, 96)
    assert len(MODELS.build(tower)(image)) == 5  # the stem's is the first
    maps = MODELS.build(tower | dict(out_indices=[1, 2, 3, 4]))(image)
    shapes = [m.shape[1:] for m in maps]
    assert shapes == [(32, 16, 24), (64, 8, 12), (128, 4, 6), (256, 2, 3)]
    neck = dict(in_channels=[32, 64, 128, 256], out_channels=8, num_outs=5)
    levels = MODELS.build(dict(type='FPN', **neck))(maps)
    assert [level.shape[2] for level in levels] == [16, 8, 4, 2, 1]
    ran('mmdet', 'OpenCLIPVisionTower of a ResNet', 'stages into FPN')
