r"""Mask R-CNN on CLIP ViT-B/16 (OpenAI) as ViTDet, COCO, with mmdetection.

Source: arXiv 2203.16527; data, schedule (100 epochs, 64 images per step) and
optimizer are those of mmdetection's projects/ViTDet. Published with MAE's
weights: 51.6 box AP, 45.9 mask AP (detectron2's projects/ViTDet). Differences:
position embeddings instead of relative positions, which CLIP's weights lack;
windows of 16, which fill 1024 px without a border, instead of 14. Not trained
by this project.
Memory: docs/mmdet.md; 64 images per step, on 16 GPUs.

    # on each of 2 machines with 8 GPUs; N is 0 or 1 (docs/distributed.md)
    NNODES=2 NODE_RANK=N MASTER_ADDR=ADDRESS bash tools/dist_train.sh \
        configs/mmdet/clip-b16_mask-rcnn_coco-1024.py 8 --amp
    bash tools/dist_test.sh configs/mmdet/clip-b16_mask-rcnn_coco-1024.py \
        CHECKPOINT 8
"""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '../_base_/mmdet.py',
]
custom_imports = dict(imports=['mmclip'])  # for inferencers' checkpoints

image_size = (1024, 1024)
norm_cfg = dict(type='mmclip.ChannelNorm', eps=1e-6)
model = dict(
    data_preprocessor=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],  # CLIP's, 0..255
        std=[68.5005327, 66.6321579, 70.32316305],
        pad_size_divisor=1024,  # so that all images have one size
    ),
    backbone=dict(
        _delete_=True,
        type='mmclip.CLIPVisionTransformer',
        arch='base',
        act='quick_gelu',
        img_size=1024,
        patch_size=16,
        out_type='featmap',
        window_size=16,  # global attention in blocks 2, 5, 8 and 11
        drop_path_rate=0.1,
        with_cp=False,  # True saves memory: docs/mmdet.md
        init_cfg=dict(
            type='mmclip.PretrainedCLIP',
            checkpoint='open_clip://ViT-B-16/openai',
        ),
    ),
    neck=dict(
        _delete_=True, type='mmclip.SimpleFeaturePyramid', in_channels=768
    ),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead',
            conv_out_channels=256,
            norm_cfg=norm_cfg,
        ),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)

train_pipeline = [
    dict(type='mmclip.SeedSample'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomResize',
        scale=image_size,
        ratio_range=(0.1, 2.0),
        keep_ratio=True,
    ),
    dict(
        type='RandomCrop',
        crop_type='absolute_range',
        crop_size=image_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='PackDetInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = image_size
train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    sampler=dict(_delete_=True, type='mmclip.ResumableInfiniteSampler'),
    batch_sampler=None,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1
    ),
    constructor='mmclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        },
    ),
)
max_iters = 184375  # 100 epochs of 118,000 images
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250
    ),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[163889, 177546],
        gamma=0.1,
    ),
]
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(base_batch_size=64)
