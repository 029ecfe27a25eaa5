"""The demo's baseline: the same schedule from random weights."""

_base_ = ['./clip-demo-digits.py']

model = dict(backbone=dict(init_cfg=None))
work_dir = 'work_dirs/demo/from_scratch'
