"""The demo: a tiny CLIP, fine-tuned on a few scans of each digit.

Data: tools/demo/prepare_data.py. Weights: tools/demo/pretrain.py, converted
by tools/model_converters/openclip_to_mmcls.py. To run everything:
python tools/demo/run.py --ways
"""

_base_ = ['../_base_/default_runtime.py']

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(  # PREPROCESS_CFG of tools/demo/pretrain.py
        num_classes=10, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True
    ),
    backbone=dict(  # MODEL_CFG of tools/demo/pretrain.py
        type='mmclip.CLIPVisionTransformer',
        arch=dict(width=128, depth=4, num_heads=4, mlp_width=512),
        act='quick_gelu',
        img_size=32,
        patch_size=8,
        init_cfg=dict(
            type='mmclip.PretrainedCLIP', checkpoint='work_dirs/demo/clip.pth'
        ),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss'),
        # Without bounds, mmengine turns one draw in some millions into -2.
        init_cfg=dict(
            type='TruncNormal', layer='Linear', std=0.02, a=-0.2, b=0.2
        ),
    ),
)

train_pipeline = [
    dict(type='mmclip.SeedSample'),
    dict(type='LoadImageFromFile', _scope_='mmclip'),
    dict(
        type='RandomResizedCrop',
        scale=32,
        crop_ratio_range=(0.6, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mmclip'),
    dict(type='PackInputs'),
]

data_root = 'data/demo_digits'
train_dataloader = dict(
    batch_size=30,  # all training images
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='mmclip.ImageFolder',
        data_root=data_root,
        data_prefix='train',
        pipeline=train_pipeline,
    ),
    sampler=dict(type='mmclip.ResumableInfiniteSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='mmclip.ImageFolder',
        data_root=data_root,
        data_prefix='val',
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

optim_wrapper = dict(
    clip_grad=dict(max_norm=1.0),
    optimizer=dict(
        type='AdamW',
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05,
        fused=True,
    ),
    constructor='mmclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.75,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        },
    ),
)
iters, warmup_iters = 200, 20
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=warmup_iters),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=warmup_iters,
        end=iters,
    ),
]
train_cfg = dict(by_epoch=False, max_iters=iters, val_interval=20)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=iters, save_best=None),
)
log_processor = dict(by_epoch=False)
work_dir = 'work_dirs/demo/fine_tuned'
