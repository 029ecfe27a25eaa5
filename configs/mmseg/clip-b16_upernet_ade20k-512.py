r"""UPerNet on CLIP ViT-B/16 (OpenAI), ADE20k at 512 px, with mmsegmentation.

Recipe: that of mmseg's configs/mae/mae-base_upernet_8xb2-amp-160k_ade20k-
512x512.py (48.13 mIoU there, with MAE's weights), on mmseg's UPerNet for ViTs.
Changed for CLIP: four blocks at equal distances, each with a norm of its own;
CLIP's mean and std; a decoder of 512 channels; bfloat16; tests by windows a
third of which overlaps. Not trained by this project.
Memory: docs/mmseg.md; 16 images per step, on 8 GPUs.

    bash tools/dist_train.sh configs/mmseg/clip-b16_upernet_ade20k-512.py 8
    bash tools/dist_test.sh configs/mmseg/clip-b16_upernet_ade20k-512.py \
        CHECKPOINT 8
"""

_base_ = [
    'mmseg::_base_/models/upernet_vit-b16_ln_mln.py',
    'mmseg::_base_/datasets/ade20k.py',
    '../_base_/mmseg_160k.py',
]
custom_imports = dict(imports=['mmclip'])  # for inferencers' checkpoints

crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],  # CLIP's, 0..255
        std=[68.5005327, 66.6321579, 70.32316305],
        size=crop_size,
        test_cfg=dict(size_divisor=16),  # pads to whole patches
    ),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='mmclip.CLIPVisionTransformer',
        arch='base',
        act='quick_gelu',
        img_size=512,
        patch_size=16,
        out_type='featmap',
        out_indices=(2, 5, 8, 11),
        norm_outputs='each',
        drop_path_rate=0.1,
        with_cp=False,  # True saves memory: docs/mmdet.md
        init_cfg=dict(
            type='mmclip.PretrainedCLIP',
            checkpoint='open_clip://ViT-B-16/openai',
            fresh=['out_norms'],
        ),
    ),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)

train_pipeline = [dict(type='mmclip.SeedSample'), *_base_.train_pipeline]
train_dataloader = dict(
    batch_size=2,
    sampler=dict(_delete_=True, type='mmclip.ResumableInfiniteSampler'),
    dataset=dict(pipeline=train_pipeline),
)

optim_wrapper = dict(
    _delete_=True,
    type='mmclip.BFloat16OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05
    ),
    constructor='mmclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500
    ),
    dict(
        type='PolyLR',
        power=1.0,
        eta_min=0.0,
        by_epoch=False,
        begin=1500,
        end=160000,
    ),
]
