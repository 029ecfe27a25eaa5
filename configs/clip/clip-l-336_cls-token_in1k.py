r"""CLIP ViT-L/14 at 336 px (LAION-2B), fine-tuned on the class token.

Like timm's vit_large_patch14_clip_336.laion2b_ft_in1k, it uses the class token
after the final norm, plain GELU, mean = std = 0.5 and images squashed to 336 x
336. timm's published result: 87.870 % top-1 (results/results-imagenet.csv).
timm does not publish how it was trained, so the schedule, learning rates and
augmentation are FT-CLIP's: compare this config with clip-l-336.py, not with
timm's result. Not trained by this project.

    # on each of 3 machines with 8 GPUs; see clip-l-336.py
    NNODES=3 NODE_RANK=N MASTER_ADDR=ADDRESS \
        bash tools/dist_train.sh configs/clip/clip-l-336_cls-token_in1k.py 8
"""

_base_ = ['./clip-l-336.py']

mean = std = [127.5] * 3  # of the tag laion2b_s32b_b82k

model = dict(
    data_preprocessor=dict(mean=mean, std=std),
    backbone=dict(
        act='gelu',
        out_type='pooled',
        init_cfg=dict(
            checkpoint='open_clip://ViT-L-14/laion2b_s32b_b82k', fresh=[]
        ),
    ),
)

train_pipeline = _base_.train_pipeline
train_pipeline[4].hparams.pad_val = [128] * 3
train_pipeline[5].update(fill_color=mean, fill_std=std)
test_pipeline = [
    _base_.test_pipeline[0],
    dict(  # timm: crop_mode squash, crop_pct 1.0
        type='Resize',
        scale=(336, 336),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
