r"""CLIP ViT-B/16 at 224 px, fine-tuned on ImageNet-1k after FT-CLIP.

Source: that of clip-l-224.py, which this config changes, and
scripts/bash_fine_Openai_CLIP_P16.sh (S).
Published result: 85.66 % top-1 (logs/CLIP_B16.log). Not trained by this
project.

    python3 tools/model_converters/openclip_to_mmcls.py \
        ViT-B-16 openai ViT-B-16.pth
    bash tools/dist_train.sh configs/clip/clip-b16-224.py 8   # as in S
"""

_base_ = ['./clip-l-224.py']

model = dict(
    backbone=dict(
        arch='base',
        patch_size=16,
        init_cfg=dict(checkpoint='ViT-B-16.pth'),
    ),
    head=dict(in_channels=768),
)

train_dataloader = dict(
    batch_size=256,  # S: 256 x 8 GPUs = 2048 images
    sampler=dict(images_per_step=None),  # no accumulation
)

lr = 6e-4  # S
optim_wrapper = dict(
    accumulative_counts=1,  # S
    optimizer=dict(lr=lr),
    paramwise_cfg=dict(layer_decay_rate=0.6),  # S
)
auto_scale_lr = dict(base_batch_size=2048)

epochs, warmup_epochs = 50, 10  # S
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = warmup_epochs
param_scheduler[1].update(
    eta_min_ratio=1e-6 / lr, begin=warmup_epochs, end=epochs
)
train_cfg = dict(max_epochs=epochs)
custom_hooks = [dict(type='EMAHook', momentum=1 - 0.9998)]  # S
