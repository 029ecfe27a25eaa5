r"""Zero-shot segmentation with CLIP ViT-B/16 (OpenAI), Cityscapes, with mmseg.

As clip-b16_zeroshot_ade20k.py, which says more. The shorter side has 560 px,
as in SCLIP, whose own code reports 32.34 mIoU (README.md of wangf3014/SCLIP).
Not measured by this project.

    mmclip zero-shot ViT-B-16 openai clip-b16_city.pth --segmenter \
        --classes configs/mmseg/names/cityscapes.txt
    python tools/test.py configs/mmseg/clip-b16_zeroshot_cityscapes.py \
        clip-b16_city.pth
"""

_base_ = [
    'mmseg::_base_/datasets/cityscapes.py',
    '../_base_/mmseg_zeroshot_b16.py',
]

model = dict(decode_head=dict(num_classes=19))

test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (2048, 560)
train_dataloader = val_dataloader = val_evaluator = None
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [test_pipeline[1]]  # one size, and mirrored
