r"""CLIP ViT-L/14 at 336 px, fine-tuned on ImageNet-1k after FT-CLIP.

Source: arXiv 2212.06138 and its repository LightDXY/FT-CLIP,
scripts/bash_fine_Openai_CLIP_Large_P14_336.sh (S below),
models/finetune_clip.py (M), datasets.py (D), logs/CLIP_L14_336.log (L).
Published result: 88.33 % top-1 (L, best epoch of the EMA weights; last epoch
87.7). Not trained by this project.

    python3 tools/model_converters/openclip_to_mmcls.py \
        ViT-L-14-336 openai ViT-L-14-336px.pth
    # on each of 3 machines with 8 GPUs, as in L; N is 0, 1 or 2, and ADDRESS
    # is machine 0 (docs/distributed.md)
    NNODES=3 NODE_RANK=N MASTER_ADDR=ADDRESS \
        bash tools/dist_train.sh configs/clip/clip-l-336.py 8

With fewer GPUs, raise optim_wrapper.accumulative_counts (and the EMA's
interval and begin_iter with it) until GPUs x 20 x accumulative_counts is 1920.
Or use --auto-scale-lr, which ignores accumulative_counts; never do both.

Differences from FT-CLIP: M starts from OpenAI's 224 px weights and resizes the
position embedding; this config starts from OpenAI's own 336 px weights. M
drops the incomplete step at the end of an epoch (2 of 2,670 iterations), and
changes the learning rate per step, not per iteration. The head's bias starts
at 0 instead of within 3e-5 of it, and the EMA from the weights after the first
step instead of those before it. RandomErasing clips its noise to black and
white, which timm does not.
"""

_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/imagenet.py']

clip_mean = [0.48145466, 0.4578275, 0.40821073]  # D; openai/CLIP clip/clip.py
clip_std = [0.26862954, 0.26130258, 0.27577711]
mean, std = [255 * m for m in clip_mean], [255 * s for s in clip_std]

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=1000, mean=mean, std=std, to_rgb=True),
    backbone=dict(
        type='mmclip.CLIPVisionTransformer',
        arch='large',
        act='quick_gelu',  # M; the tag openai
        img_size=336,  # S
        patch_size=14,
        out_type='avg_featmap',  # M: mean of the normalised patch tokens
        # M: a new norm, no projection, nothing frozen at 336 px
        init_cfg=dict(
            type='mmclip.PretrainedCLIP',
            checkpoint='ViT-L-14-336px.pth',
            fresh=['ln1'],
        ),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(  # run_class_finetuning.py: smoothing 0.1
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'
        ),
        # M: truncated normal with std 0.02 in [-2, 2], times 0.001. Its
        # default bounds make mmengine turn one draw in some millions into -2.
        init_cfg=dict(
            type='TruncNormal', layer='Linear', std=2e-5, a=-2e-3, b=2e-3
        ),
    ),
)

train_pipeline = [
    dict(type='mmclip.SeedSample'),
    dict(type='LoadImageFromFile', _scope_='mmclip'),
    dict(  # D: scale 0.08-1, bicubic
        type='RandomResizedCrop',
        scale=336,
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(  # D: rand-m9-mstd0.5-inc1
        type='mmclip.RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(
            pad_val=[round(m) for m in mean[::-1]], interpolation='bicubic'
        ),
    ),
    dict(  # D: probability 0.25, mode pixel, count 1
        type='mmclip.RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=mean[::-1],
        fill_std=std[::-1],
    ),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mmclip'),
    dict(  # D: crop_pct 1.0
        type='ResizeEdge',
        scale=336,
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='CenterCrop', crop_size=336),
    dict(type='PackInputs'),
]
batch_size, accumulative_counts = 20, 4  # S: batch_size, update_freq
train_dataloader = dict(
    batch_size=batch_size,
    # S also drops the images of an incomplete step
    sampler=dict(images_per_step=batch_size * accumulative_counts),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

lr = 6e-4  # S, for 20 x 4 x 24 GPUs (L) = 1920 images per step
optim_wrapper = dict(
    accumulative_counts=accumulative_counts,
    optimizer=dict(  # optim_factory.py; weight decay S
        type='AdamW',
        lr=lr,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05,
        fused=True,  # one pass over the weights: the same up to rounding
    ),
    constructor='mmclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.65,  # S
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={  # M: no_weight_decay
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        },
    ),
)
auto_scale_lr = dict(base_batch_size=1920 // accumulative_counts)

epochs, warmup_epochs = 30, 5  # S
# run_class_finetuning.py, utils.py: from 0 (L: the mean of epoch 0 is
# 5.992801e-05; --warmup_lr is not used) to 1e-6, per iteration
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-12,  # nearly 0; LinearLR would never leave 0 itself
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-6 / lr,
        begin=warmup_epochs,
        end=epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
custom_hooks = [  # S: decay 0.9998, once per optimizer step
    dict(
        type='EMAHook',
        momentum=1 - 0.9998,
        interval=accumulative_counts,
        # so that mmengine updates with each step, not one iteration later
        begin_iter=accumulative_counts,
    )
]
