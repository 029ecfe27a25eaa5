r"""SETR-PUP on CLIP ViT-B/16 (OpenAI), ADE20k at 512 px, with mmsegmentation.

Source of the heads: arXiv 2012.15840, mmseg's
configs/setr/setr_vit-l_pup_8xb2-160k_ade20k-512x512.py (48.24 mIoU with a
ViT-L/16 of ImageNet-21k). They have norms of their own, so the maps have none.
Everything else is as in clip-b16_upernet_ade20k-512.py, AdamW too, where SETR
has SGD. Not trained by this project.
Memory: docs/mmseg.md; 16 images per step, on 8 GPUs.

    bash tools/dist_train.sh configs/mmseg/clip-b16_setr-pup_ade20k-512.py 8
    bash tools/dist_test.sh configs/mmseg/clip-b16_setr-pup_ade20k-512.py \
        CHECKPOINT 8
"""

_base_ = './clip-b16_upernet_ade20k-512.py'

head = dict(
    type='SETRUPHead',
    in_channels=768,
    channels=256,
    num_classes=150,
    dropout_ratio=0,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    num_convs=2,
    kernel_size=3,
)
model = dict(
    backbone=dict(norm_outputs='none', init_cfg=dict(fresh=[])),
    neck=None,
    decode_head=dict(
        _delete_=True, **head | dict(in_index=3, num_convs=4, up_scale=2)
    ),
    auxiliary_head=[
        dict(
            in_index=i,
            loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
            **head,
        )
        for i in range(3)
    ],
)
