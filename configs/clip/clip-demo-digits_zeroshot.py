"""The demo's zero-shot classifier: the digits' names, no training.

Weights: tools/zero_shot_head.py with tools/demo/names.txt and templates.txt.
All of it: make demo.
"""

_base_ = ['./clip-demo-digits.py']

model = dict(
    backbone=dict(proj_dim=64, init_cfg=None),
    head=dict(
        _delete_=True,
        type='mmclip.ZeroShotClsHead',
        num_classes=10,
        in_channels=64,
    ),
)
