r"""CLIP ViT-L/14 at 336 px, fine-tuned from its zero-shot classifier.

The start of WiSE-FT: arXiv 2109.01903 (P) and its repository
mlfoundations/wise-ft, README.md (R), src/models/finetune.py (F),
src/models/utils.py (U). Not trained by this project.
Its result for this model (P, Table 1, of which only quotations were read), as
top-1 on ImageNet / mean of V2, R, Sketch, ObjectNet and A: zero-shot 76.6 /
73.4, fine-tuned 86.2 / 68.6, the average of both weights at alpha 0.5 86.8 /
76.9, at the best alpha 87.1 / 77.4. See docs/weight_space.md.
R's command is for ViT-B/32, on the GPUs of one machine, 512 images a step; R
does not say which and how many.
The schedule is counted in iterations, as there. With other data, epochs or
images a step, set what is computed from iters (iters itself comes too late):
    --cfg-options train_cfg.max_epochs=E param_scheduler.1.T_max=T
where T is images / images a step x E, less the 500 iterations of the warm-up.
With accumulated gradients: docs/fine_tuning.md.

    python tools/zero_shot_head.py ViT-L-14-336 openai clip-l-336_zeroshot.pth
    bash tools/dist_train.sh configs/clip/clip-l-336_wise-ft_in1k.py 8
    python tools/interpolate.py clip-l-336_zeroshot.pth \
        work_dirs/clip-l-336_wise-ft_in1k/epoch_10.pth \
        --config configs/clip/clip-l-336_wise-ft_in1k.py --out wise-ft.pth
"""

_base_ = ['./clip-l-336_zeroshot_in1k.py']

load_from = 'clip-l-336_zeroshot.pth'

# F: train_preprocess of openai/CLIP as the repository has it
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

lr = 3e-5  # R, for 512 images a step
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=lr, weight_decay=0.1),  # F; decay P
    clip_grad=dict(max_norm=1.0),  # F
)
auto_scale_lr = dict(base_batch_size=512)

epochs = 10  # R
# 1,281,167 images, 512 a step; U counts in iterations, P warms up for 500.
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
