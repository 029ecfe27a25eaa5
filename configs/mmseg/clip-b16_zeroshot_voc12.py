r"""Zero-shot segmentation with CLIP ViT-B/16 (OpenAI), VOC 2012, with mmseg.

As clip-b16_zeroshot_ade20k.py, which says more, with 20 classes and a
background of several names. SCLIP's own code reports 59.63 mIoU with its names
(README.md of wangf3014/SCLIP). Not measured by this project.

    mmclip zero-shot ViT-B-16 openai clip-b16_voc.pth --segmenter \
        --classes configs/mmseg/names/voc.txt
    python tools/test.py configs/mmseg/clip-b16_zeroshot_voc12.py \
        clip-b16_voc.pth
"""

_base_ = [
    'mmseg::_base_/datasets/pascal_voc12.py',
    '../_base_/mmseg_zeroshot_b16.py',
]

model = dict(
    decode_head=dict(
        num_classes=21,
        num_names=36,  # as `mmclip zero-shot` prints
        background=0,
        threshold=0.0,  # what is less likely than it is background
    )
)

test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (2048, 336)
train_dataloader = val_dataloader = val_evaluator = None
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [test_pipeline[1]]  # one size, and mirrored
