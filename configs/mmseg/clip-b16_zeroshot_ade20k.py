r"""Zero-shot segmentation with CLIP ViT-B/16 (OpenAI), ADE20k, mmsegmentation.

Nothing is trained: the last block keeps patches apart as SCLIP's does (arXiv
2312.01597), and the head's weights are texts. Windows of 224 px slide over
images whose shorter side has 336 px, as there. SCLIP's own code reports 16.45
mIoU with its names (README.md of wangf3014/SCLIP). Not measured by this
project.
Memory: docs/mmseg.md; 1 GPU.

    mmclip zero-shot ViT-B-16 openai clip-b16_ade20k.pth --segmenter \
        --classes configs/mmseg/names/ade20k.txt
    python tools/test.py configs/mmseg/clip-b16_zeroshot_ade20k.py \
        clip-b16_ade20k.pth
"""

_base_ = [
    'mmseg::_base_/datasets/ade20k.py',
    '../_base_/mmseg_zeroshot_b16.py',
]

model = dict(decode_head=dict(num_classes=150))

test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (2048, 336)
train_dataloader = val_dataloader = val_evaluator = None
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [test_pipeline[1]]  # one size, and mirrored
