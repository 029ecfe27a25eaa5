r"""CLIP ViT-L/14 at 336 px, frozen, with a linear classifier on ImageNet-1k.

Source: arXiv 2103.00020, appendix A.3: logistic regression by L-BFGS on the
features before the projection. Published result: 85.4 % top-1 (Table 16, read
only as quoted; 85.40 for ViT-L/14 at 336 px in the model card of
DeepGlint-AI/mlcd-vit-large-patch14-336), without the number of GPUs. Not
measured by this project.
One GPU computes the features, or several with torchrun; without a GPU this
takes days.

    python tools/linear_probe.py configs/clip/clip-l-336_linear-probe_in1k.py \
        open_clip://ViT-L-14-336/openai --amp
    python tools/test.py configs/clip/clip-l-336_linear-probe_in1k.py \
        work_dirs/clip-l-336_linear-probe_in1k/linear_probe.pth

tools/train.py trains the same head by SGD with augmentation, like the probe of
LP-FT (arXiv 2202.10054; AnanyaKumar/transfer_learning, K below), on 8 GPUs x
16 images.
"""

_base_ = ['./clip-l-336.py']

model = dict(
    backbone=dict(
        out_type='pooled',  # the class token after the final norm
        frozen_stages=24,
        init_cfg=dict(fresh=[]),
    ),
    head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss')),
)

# The rest is only for tools/train.py.
train_pipeline = [  # K: configs/adaptation/datasets_imagenet_augs.yaml
    *_base_.train_pipeline[:2],
    dict(
        type='RandomResizedCrop',
        scale=336,
        backend='pillow',
        interpolation='bilinear',  # torchvision's default
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
# K: configs/adaptation/imagenet_augs.yaml, 128 images per step
train_dataloader = dict(
    batch_size=16,
    sampler=dict(images_per_step=None),  # no accumulation
    dataset=dict(pipeline=train_pipeline),
)

optim_wrapper = dict(
    _delete_=True,
    # K: configs/adaptation/resnet50_transfer.yaml. Its script tries 0.003,
    # 0.01, 0.3, 0.1, 0.3 and 1 for a probe by SGD: a later line overwrites
    # the 0.01, 0.03 and 0.1 meant for ImageNet.
    optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=0.0),
)
auto_scale_lr = dict(base_batch_size=128)
epochs = 10  # K: configs/adaptation/imagenet_augs.yaml
param_scheduler = [dict(type='CosineAnnealingLR', T_max=epochs)]  # as there
train_cfg = dict(max_epochs=epochs)
custom_hooks = []  # no average of weights
