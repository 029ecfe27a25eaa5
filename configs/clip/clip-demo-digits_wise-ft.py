"""The demo's CLIP, fine-tuned from its zero-shot classifier for WiSE-FT."""

_base_ = ['./clip-demo-digits_zeroshot.py']

load_from = 'work_dirs/demo/zero_shot.pth'
work_dir = 'work_dirs/demo/from_zero_shot'
