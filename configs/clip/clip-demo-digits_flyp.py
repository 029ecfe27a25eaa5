"""The demo's CLIP, fine-tuned with captions of the digits (FLYP)."""

_base_ = ['./clip-demo-digits.py']

folder = 'work_dirs/demo/open_clip'
model = dict(
    _delete_=True,
    type='mmclip.ContrastiveClassifier',
    data_preprocessor=_base_.model.data_preprocessor,
    backbone={**_base_.model.backbone, 'proj_dim': 64},
    text=dict(
        type='mmclip.OpenCLIPTextTower',
        model=f'{folder}/open_clip_config.json',
        pretrained=f'{folder}/open_clip_pytorch_model.bin',
    ),
    classes='work_dirs/demo/names.txt',
    templates='work_dirs/demo/templates.txt',
)

# One learning rate for both towers, as in FLYP; a tenth of the other configs',
# because nothing starts from random weights and there is no layer decay.
optim_wrapper = dict(
    _delete_=True,
    clip_grad=dict(max_norm=1.0),
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1, fused=True),
)
work_dir = 'work_dirs/demo/flyp'
