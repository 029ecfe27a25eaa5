r"""DINO on CLIP ViT-B/16 (OpenAI), COCO, with mmdetection.

Source of the detector: arXiv 2203.03605, mmdet's
configs/dino/dino-4scale_r50_8xb2-12e_coco.py, whose data (shorter sides of 480
to 800 px) and schedule these are (49.0 box AP there, with a ResNet-50).
Differences: the four levels are a simple feature pyramid's; layer decay and
drop path are ViTDet's (arXiv 2203.16527). Not trained by this project. Its
deformable attention needs mmcv's compiled operators on a GPU; on a CPU mmcv
has it in Python.
Memory: docs/mmdet.md; 16 images per step, on 8 GPUs.

    bash tools/dist_train.sh configs/mmdet/clip-b16_dino_coco.py 8
    bash tools/dist_test.sh configs/mmdet/clip-b16_dino_coco.py \
        CHECKPOINT 8
"""

_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'
custom_imports = dict(imports=['mmclip'])  # for inferencers' checkpoints

model = dict(
    data_preprocessor=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],  # CLIP's, 0..255
        std=[68.5005327, 66.6321579, 70.32316305],
        pad_size_divisor=32,  # pads to whole patches, and halves of the map
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
        scales=(2, 1, 0.5),  # strides of 8, 16 and 32, and one more
        num_outs=4,
    ),
)

train_pipeline = [dict(type='mmclip.SeedSample'), *_base_.train_pipeline]
train_dataloader = dict(
    sampler=dict(type='mmclip.ResumableSampler'),
    dataset=dict(pipeline=train_pipeline),
)
optim_wrapper = dict(
    constructor='mmclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        layer_decay_rate=0.7,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        },
    ),
)
default_hooks = dict(
    checkpoint=dict(type='mmclip.ReliableCheckpointHook', save_best='auto'),
    strict_load=dict(type='mmclip.StrictLoadHook'),
    exact_resume=dict(type='mmclip.ExactResumeHook'),
    check_classes=dict(type='mmclip.CheckClassesHook'),
    check_schedule=dict(type='mmclip.CheckScheduleHook'),
    finite_loss=dict(type='mmclip.FiniteLossHook'),
    every_test_image=dict(type='mmclip.EveryTestImageHook'),
    interrupt=dict(type='mmclip.InterruptHook'),
    progress=dict(type='mmclip.ProgressHook'),
)
randomness = dict(seed=0)
