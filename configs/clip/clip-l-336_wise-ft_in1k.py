r"""CLIP ViT-L/14 at 336 px, fine-tuned from its zero-shot head (WiSE-FT).

Source: arXiv 2109.01903 (P) and its repository mlfoundations/wise-ft,
README.md (R), src/models/finetune.py (F), src/models/utils.py (U). Not trained
by this project.
Published results for this model (P, Table 1, read only as quoted), as top-1 on
ImageNet / average of V2, R, Sketch, ObjectNet and A: zero-shot 76.6 / 73.4,
fine-tuned 86.2 / 68.6, both averaged with alpha 0.5 86.8 / 76.9, with the best
alpha 87.1 / 77.4. See docs/weight_space.md.
R's command is for ViT-B/32, on the GPUs of one machine with 512 images per
step; R does not say which GPUs or how many.
The schedule is in iterations, as in R. With other data, epochs or images per
step, set the values computed from iters (setting iters itself has no effect):
    --cfg-options train_cfg.max_epochs=E param_scheduler.1.T_max=T
where T is images / images per step x E, minus the 500 warm-up iterations.
For accumulated gradients, see docs/fine_tuning.md.

    python tools/zero_shot_head.py ViT-L-14-336 openai clip-l-336_zeroshot.pth
    bash tools/dist_train.sh configs/clip/clip-l-336_wise-ft_in1k.py 8
    python tools/interpolate.py clip-l-336_zeroshot.pth \
        work_dirs/clip-l-336_wise-ft_in1k/epoch_10.pth \
        --config configs/clip/clip-l-336_wise-ft_in1k.py --out wise-ft.pth
"""

_base_ = ['./clip-l-336_zeroshot_in1k.py']

load_from = 'clip-l-336_zeroshot.pth'

# F: train_preprocess of the repository's copy of openai/CLIP
train_pipeline = [
    dict(type='mmclip.SeedSample'),
    _base_.test_pipeline[0],
    dict(
        type='RandomResizedCrop',
        scale=336,
        crop_ratio_range=(0.9, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=64,
    num_workers=8,
    dataset=dict(
        type='mmclip.ImageNet',
        data_root='data/imagenet',
        split='train',
        pipeline=train_pipeline,
    ),
    sampler=dict(type='mmclip.ResumableSampler', shuffle=True),
)

lr = 3e-5  # R, for 512 images per step
optim_wrapper = dict(
    optimizer=dict(  # F; decay P
        type='AdamW', lr=lr, weight_decay=0.1, fused=True
    ),
    clip_grad=dict(max_norm=1.0),  # F
)
auto_scale_lr = dict(base_batch_size=512)

epochs = 10  # R
# 1,281,167 images, 512 per step; U counts in iterations, P warms up for 500.
warmup_iters, iters = 500, 2503 * epochs
param_scheduler = [
    dict(
        type='LinearLR',
        by_epoch=False,
        start_factor=1 / warmup_iters,
        end=warmup_iters,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=warmup_iters,
        T_max=iters - warmup_iters,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
