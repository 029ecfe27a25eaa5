r"""UPerNet on CLIP ViT-L/14 at 336 px (OpenAI), ADE20k, with mmsegmentation.

Changes clip-b16_upernet_ade20k-512.py. Crops have 518 px, which are 37 patches
of 14; of 512 px the last 8 would be cut off. Learning rate, layer decay and
drop path: those of mmseg's configs/beit/beit-large_upernet_8xb1-amp-160k_
ade20k-640x640.py. Not trained by this project.
Memory: docs/mmseg.md; 16 images per step, on 8 GPUs.

    bash tools/dist_train.sh configs/mmseg/clip-l-336_upernet_ade20k-512.py 8
    bash tools/dist_test.sh configs/mmseg/clip-l-336_upernet_ade20k-512.py \
        CHECKPOINT 8
"""

_base_ = './clip-b16_upernet_ade20k-512.py'

crop_size = (518, 518)
model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size_divisor=14)),
    backbone=dict(
        arch='large',
        img_size=518,
        patch_size=14,
        out_indices=(5, 11, 17, 23),
        drop_path_rate=0.2,
        with_cp=True,
        init_cfg=dict(checkpoint='open_clip://ViT-L-14-336/openai'),
    ),
    neck=dict(in_channels=[1024] * 4, out_channels=1024),
    decode_head=dict(in_channels=[1024] * 4),
    auxiliary_head=dict(in_channels=1024),
    test_cfg=dict(crop_size=crop_size, stride=(345, 345)),
)

train_pipeline = _base_.train_pipeline
train_pipeline[4].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    optimizer=dict(lr=2e-5), paramwise_cfg=dict(layer_decay_rate=0.95)
)
