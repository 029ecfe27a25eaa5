r"""CLIP ViT-L/14 at 336 px, zero-shot on ImageNet-1k (OpenAI).

Source: arXiv 2103.00020. Published results: 76.2 % top-1 (Table 16, read only
as quoted), and 76.56 % with open_clip, which this config follows
(mlfoundations/open_clip, docs/openclip_results.csv). Not measured by this
project.
The head holds embeddings of the class names. It needs at most one GPU.

    python tools/zero_shot_head.py ViT-L-14-336 openai clip-l-336_zeroshot.pth
    python tools/test.py configs/clip/clip-l-336_zeroshot_in1k.py \
        clip-l-336_zeroshot.pth
"""

_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/imagenet.py']

clip_mean = [0.48145466, 0.4578275, 0.40821073]  # openai/CLIP clip/clip.py
clip_std = [0.26862954, 0.26130258, 0.27577711]

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        num_classes=1000,
        mean=[255 * m for m in clip_mean],
        std=[255 * s for s in clip_std],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmclip.CLIPVisionTransformer',
        arch='large',
        act='quick_gelu',
        img_size=336,
        patch_size=14,
        proj_dim=768,
    ),
    head=dict(
        type='mmclip.ZeroShotClsHead', num_classes=1000, in_channels=768
    ),
)

# mmclip.datasets.preprocessing.test_pipeline gives the same for this tag.
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mmclip'),
    dict(
        type='ResizeEdge',
        scale=336,
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='CenterCrop', crop_size=(336, 336)),
    dict(type='PackInputs'),
]
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_dataloader = None  # nothing is trained
val_cfg = dict()
test_cfg = dict()
