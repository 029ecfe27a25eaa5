"""The demo's zero-shot classifier, from the names of the digits.

Weights: tools/zero_shot_head.py with work_dirs/demo/names.txt and
templates.txt. To run everything:
python tools/demo/run.py --ways
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
