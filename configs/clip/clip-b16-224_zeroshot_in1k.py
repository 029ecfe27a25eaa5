r"""CLIP ViT-B/16 at 224 px, zero-shot on ImageNet-1k (OpenAI).

Changes clip-l-336_zeroshot_in1k.py. Source: arXiv 2103.00020. Published result
with open_clip: 68.34 % top-1 (mlfoundations/open_clip,
docs/openclip_results.csv). Not measured by this project. It also tests the
classifiers that flyp_to_classifier.py writes.

    python tools/zero_shot_head.py ViT-B-16 openai clip-b16_zeroshot.pth
    python tools/test.py configs/clip/clip-b16-224_zeroshot_in1k.py \
        clip-b16_zeroshot.pth
"""

_base_ = ['./clip-l-336_zeroshot_in1k.py']

model = dict(
    backbone=dict(arch='base', img_size=224, patch_size=16, proj_dim=512),
    head=dict(in_channels=512),
)

test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 224
test_pipeline[2].crop_size = (224, 224)
val_dataloader = dict(batch_size=128, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
