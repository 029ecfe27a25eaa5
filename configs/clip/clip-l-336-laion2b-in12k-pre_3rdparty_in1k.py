r"""CLIP ViT-L/14 at 336 px, LAION-2B, tuned on ImageNet-12k, then -1k (timm).

Weights: timm's vit_large_patch14_clip_336.laion2b_ft_in12k_in1k. Published
result: 88.190 % top-1, 98.566 % top-5 (timm, results/results-imagenet.csv).
For testing only. timm fine-tuned it on the class token, with plain GELU, mean
= std = 0.5 and images squashed to 336 x 336.

    python tools/test.py CONFIG \
        timm://vit_large_patch14_clip_336.laion2b_ft_in12k_in1k
"""

_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/imagenet.py']

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(  # timm: mean = std = 0.5
        num_classes=1000, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True
    ),
    backbone=dict(
        type='mmclip.CLIPVisionTransformer',
        arch='large',
        act='gelu',
        img_size=336,
        patch_size=14,
        out_type='pooled',
    ),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1024),
)

# mmclip.datasets.preprocessing.test_pipeline gives the same for timm's tag.
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mmclip'),
    dict(  # timm: crop_mode squash, crop_pct 1.0, bicubic
        type='Resize',
        scale=(336, 336),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='PackInputs'),
]
test_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_cfg = dict()

# For testing only: timm's schedule is not published.
train_dataloader = None
val_dataloader = None
val_evaluator = None
