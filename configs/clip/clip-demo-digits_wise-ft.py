"""The demo, fine-tuned from the zero-shot classifier, as WiSE-FT starts."""

_base_ = ['./clip-demo-digits_zeroshot.py']

load_from = 'work_dirs/demo/zero_shot.pth'
work_dir = 'work_dirs/demo/from_zero_shot'
