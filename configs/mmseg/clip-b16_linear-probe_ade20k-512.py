r"""A linear layer on frozen CLIP ViT-B/16 (OpenAI), ADE20k, mmsegmentation.

What patches know: a 1x1 convolution on the last map is trained, nothing else.
The map has passed CLIP's final norm, which does not change, so it has no batch
norm, unlike DINOv2's linear probe. Learning rate and weight decay are ours.
Not trained by this project.
Memory: docs/mmseg.md; 16 images per step, on 1 GPU.

    python tools/train.py configs/mmseg/clip-b16_linear-probe_ade20k-512.py
    python tools/test.py configs/mmseg/clip-b16_linear-probe_ade20k-512.py \
        CHECKPOINT
"""

_base_ = './clip-b16_upernet_ade20k-512.py'

model = dict(
    backbone=dict(
        frozen_stages=12,  # all
        out_indices=(11,),
        norm_outputs='last',
        drop_path_rate=0.0,
        init_cfg=dict(fresh=[]),
    ),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=768,
        in_index=0,
        channels=768,
        num_convs=0,
        concat_input=False,
        num_classes=150,
    ),
    auxiliary_head=None,
)

train_dataloader = dict(batch_size=16)
optim_wrapper = dict(
    _delete_=True,
    type='mmclip.BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4),
)
