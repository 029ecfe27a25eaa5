r"""CLIP ViT-L/14 at 336 px, fine-tuned on ImageNet-1k with LoRA.

Source: mmpretrain's configs/vision_transformer/
vit-base-p16_8xb64-lora_in1k-384px.py (M), for another ViT-B/16, and arXiv
2106.09685. There is no published result for this model, and none for M in
mmpretrain's metafile; M's name says 8 GPUs x 64 images. Not trained by this
project. Differences from M: our tower and its weights, the class token before
the projection, and cross entropy and bicubic resizing as in clip-l-336.py.

    python3 tools/model_converters/openclip_to_mmcls.py \
        ViT-L-14-336 openai ViT-L-14-336px.pth
    bash tools/dist_train.sh configs/clip/clip-l-336_lora_in1k.py 8
    python tools/model_converters/merge_lora.py \
        configs/clip/clip-l-336_lora_in1k.py CHECKPOINT merged.pth
    python tools/test.py merged.py merged.pth

Checkpoints hold only the LoRA weights and the head: keep ViT-L-14-336px.pth.
"""

_base_ = ['./clip-l-336.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmclip.LoRAModel',
        module=dict(
            type='mmclip.CLIPVisionTransformer',
            arch='large',
            act='quick_gelu',
            img_size=336,
            patch_size=14,
            init_cfg=dict(
                type='mmclip.PretrainedCLIP', checkpoint='ViT-L-14-336px.pth'
            ),
        ),
        alpha=16,  # M, like everything below
        rank=16,
        drop_rate=0.1,
        targets=[dict(type='attn.qkv')],
    ),
)

train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    sampler=dict(images_per_step=None),  # no accumulation
    dataset=dict(pipeline=train_pipeline),
)

lr = 3e-3 * 8 * 64 / 4096  # M has 3e-3 for 4096 images per step
optim_wrapper = dict(
    _delete_=True,
    clip_grad=dict(max_norm=1.0),
    optimizer=dict(type='AdamW', lr=lr, weight_decay=0.3, fused=True),
)
auto_scale_lr = dict(base_batch_size=512)

epochs, warmup_epochs = 50, 5
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=warmup_epochs,
        end=epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=epochs)
custom_hooks = []
