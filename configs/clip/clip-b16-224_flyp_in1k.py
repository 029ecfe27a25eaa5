r"""CLIP ViT-B/16 at 224 px, fine-tuned on ImageNet-1k with captions (FLYP).

Source: arXiv 2212.00638 and its repository locuslab/FLYP, README.md (R),
src/models/flyp_loss.py (F). Not trained by this project.
Published result, as quoted by later work: 82.6 % top-1 on ImageNet and 59.7 %
on average on V2, R, A, Sketch and ObjectNet (SoongE/ReCalCon, README.md); 82.2
and 59.5 in a quotation of arXiv 2511.09973's table. The table of 2212.00638
itself was not available; its abstract states a gain of 4.2 % over fine-tuning
on average over seven shifts.
R trains on the GPUs of one machine with 512 images per step, which "might
require 3 A*6000 GPUs" (its author, issue 14 of locuslab/FLYP). The loss spans
the whole batch, so smaller batches with accumulative_counts are not the same.
The schedule is that of clip-l-336_wise-ft_in1k.py; see there for other data.

    python3 tools/model_converters/openclip_to_mmcls.py \
        ViT-B-16 openai ViT-B-16.pth
    bash tools/dist_train.sh configs/clip/clip-b16-224_flyp_in1k.py 8
    python tools/model_converters/flyp_to_classifier.py \
        configs/clip/clip-b16-224_flyp_in1k.py \
        work_dirs/clip-b16-224_flyp_in1k/epoch_10.pth flyp.pth
    python tools/test.py configs/clip/clip-b16-224_zeroshot_in1k.py flyp.pth
"""

_base_ = ['./clip-l-336_wise-ft_in1k.py']

load_from = None
model = dict(
    _delete_=True,
    type='mmclip.ContrastiveClassifier',
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=dict(
        type='mmclip.CLIPVisionTransformer',
        arch='base',
        act='quick_gelu',
        img_size=224,
        patch_size=16,
        proj_dim=512,
        init_cfg=dict(type='mmclip.PretrainedCLIP', checkpoint='ViT-B-16.pth'),
    ),
    text=dict(
        type='mmclip.OpenCLIPTextTower', model='ViT-B-16', pretrained='openai'
    ),
    classes='imagenet',
    templates='openai',  # R
)

train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = 224
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 224
test_pipeline[2].crop_size = (224, 224)
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=128, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# R; F decays every parameter and does not clip
optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type='AdamW', lr=1e-5, weight_decay=0.1, fused=True),
)
