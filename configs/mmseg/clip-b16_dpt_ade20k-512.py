r"""DPT on CLIP ViT-B/16 (OpenAI), ADE20k at 512 px, with mmsegmentation.

Source of the head: arXiv 2103.13413; mmseg's
configs/dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py (46.97 mIoU with a ViT-B/16
of ImageNet-21k). The head takes the class token beside each map. Everything
else is as in clip-b16_upernet_ade20k-512.py. Not trained by this project.
Memory: docs/mmseg.md; 16 images per step, on 8 GPUs.

    bash tools/dist_train.sh configs/mmseg/clip-b16_dpt_ade20k-512.py 8
    bash tools/dist_test.sh configs/mmseg/clip-b16_dpt_ade20k-512.py \
        CHECKPOINT 8
"""

_base_ = './clip-b16_upernet_ade20k-512.py'

model = dict(
    backbone=dict(output_cls_token=True),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='DPTHead',
        in_channels=(768, 768, 768, 768),
        channels=256,
        embed_dims=768,
        post_process_channels=[96, 192, 384, 768],
        num_classes=150,
        readout_type='project',
        input_transform='multiple_select',
        in_index=(0, 1, 2, 3),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
        ),
    ),
    auxiliary_head=None,
)
