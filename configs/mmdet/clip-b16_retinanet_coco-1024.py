r"""RetinaNet on CLIP ViT-B/16 (OpenAI), COCO at 1024 px, with mmdetection.

Source of the head: arXiv 1708.02002, mmdet's RetinaNet. Backbone, pyramid and
optimizer as in clip-b16_mask-rcnn_coco-1024.py; 12 epochs with mmdet's own
data. Not trained by this project.
Memory: docs/mmdet.md; 16 images per step, on 8 GPUs.

    bash tools/dist_train.sh configs/mmdet/clip-b16_retinanet_coco-1024.py 8 \
        --amp
    bash tools/dist_test.sh configs/mmdet/clip-b16_retinanet_coco-1024.py \
        CHECKPOINT 8
"""

_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/mmdet.py',
]
custom_imports = dict(imports=['mmclip'])  # for inferencers' checkpoints

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
        init_cfg=dict(
            type='mmclip.PretrainedCLIP',
            checkpoint='open_clip://ViT-B-16/openai',
        ),
    ),
    neck=dict(
        _delete_=True,
        type='mmclip.SimpleFeaturePyramid',
        in_channels=768,
        scales=(2, 1, 0.5),  # strides of 8, 16 and 32, and two more
    ),
)

image_size = (1024, 1024)
train_pipeline = [dict(type='mmclip.SeedSample'), *_base_.train_pipeline]
train_pipeline[3].scale = image_size
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = image_size
train_dataloader = dict(
    sampler=dict(type='mmclip.ResumableSampler'),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1),
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
    clip_grad=dict(max_norm=1.0),
)
