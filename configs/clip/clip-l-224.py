r"""CLIP ViT-L/14 at 224 px, fine-tuned on ImageNet-1k after FT-CLIP.

Source: that of clip-l-336.py, which this config changes, and
scripts/bash_fine_Openai_CLIP_Large_P14.sh (S), models/finetune_clip.py (M).
Published result: 87.97 % top-1 (logs/CLIP_L14.log). Not trained by this
project.

    python3 tools/model_converters/openclip_to_mmcls.py \
        ViT-L-14 openai ViT-L-14.pth
    bash tools/dist_train.sh configs/clip/clip-l-224.py 8   # as in S
"""

_base_ = ['./clip-l-336.py']

model = dict(
    backbone=dict(
        img_size=224,
        freeze_patch_embed=True,  # M, at 224 px
        init_cfg=dict(checkpoint='ViT-L-14.pth'),
    ),
)

train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = 224
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = test_pipeline[2].crop_size = 224
train_dataloader = dict(
    batch_size=64,
    sampler=dict(images_per_step=64 * 4),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=128, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

lr = 4e-4  # S, for 64 x 4 x 8 GPUs = 2048 images per step
optim_wrapper = dict(optimizer=dict(lr=lr))
auto_scale_lr = dict(base_batch_size=2048 // 4)
param_scheduler = _base_.param_scheduler
param_scheduler[1].eta_min_ratio = 1e-6 / lr
