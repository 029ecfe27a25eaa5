"""Configs that inherit from ours and make them small, for a CPU.

Widths shrink, and so do runs; images, pipelines, depths, windows, heads,
hooks and optimizers stay those of the config.
"""

from pathlib import Path

CONFIGS = Path(__file__).parents[2] / 'configs'
WIDTH = 48
HEADS = 2

# Of every config: no workers, two images at a time, little printed.
COMMON = """\
_base_ = {path!r}
small = dict(num_workers=0, persistent_workers=False)
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
"""
BACKBONE = """\
tower = dict(
    arch=dict(
        _delete_=True, width={width}, depth={depth}, num_heads={heads},
        mlp_width={mlp},
    ),
)
"""
UNLOADED = 'tower.update(init_cfg=None)\n'
TRAIN_LOADERS = """\
train_dataloader = dict(batch_size=2, **small)
val_dataloader = dict(batch_size=1, dataset=dict(indices=2), **small)
"""
TEST_LOADER = """\
test_dataloader = dict(batch_size=1, dataset=dict(indices=2), **small)
"""
ITERATIONS = """\
train_cfg = dict(max_iters=2, val_interval=9)
default_hooks['checkpoint'] = dict(interval=2)
"""
SEG_HEADS = """\
bn = dict(type='BN', requires_grad=True)  # mmseg's SyncBN needs a GPU
"""
MODELS = {
    'upernet': """\
model = dict(
    backbone=tower,
    neck=dict(in_channels=[{width}] * 4, out_channels={width}),
    decode_head=dict(in_channels=[{width}] * 4, channels=16, norm_cfg=bn),
    auxiliary_head=dict(in_channels={width}, channels=16, norm_cfg=bn),
)
""",
    'linear-probe': """\
model = dict(
    backbone=tower,
    decode_head=dict(in_channels={width}, channels={width}),
)
""",
    'dpt': """\
model = dict(
    backbone=tower,
    decode_head=dict(
        in_channels=({width},) * 4, embed_dims={width}, channels=16,
        post_process_channels=[8, 8, 16, 16], norm_cfg=bn,
    ),
)
""",
    'setr-pup': """\
small_head = dict(in_channels={width}, channels=16, norm_cfg=bn)
heads = [aux | small_head for aux in _base_.model.auxiliary_head]
model = dict(
    backbone=tower, decode_head=small_head, auxiliary_head=heads,
)
""",
    'mask-rcnn': """\
model = dict(
    backbone=tower,
    neck=dict(in_channels={width}, out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(
            in_channels=16, conv_out_channels=16, fc_out_channels=32
        ),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16),
    ),
    train_cfg=dict(
        rpn_proposal=dict(max_per_img=50), rcnn=dict(sampler=dict(num=32))
    ),
    test_cfg=dict(rpn=dict(max_per_img=50), rcnn=dict(score_thr=0.0)),
)
""",
    'retinanet': """\
model = dict(
    backbone=tower,
    neck=dict(in_channels={width}, out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16),
    test_cfg=dict(score_thr=0.0),
)
""",
    'dino': """\
layer = dict(ffn_cfg=dict(feedforward_channels=64))
model = dict(
    num_queries=50,
    backbone=tower,
    neck=dict(in_channels={width}),
    encoder=dict(num_layers=1, layer_cfg=layer),
    decoder=dict(num_layers=2, layer_cfg=layer),
    test_cfg=dict(max_per_img=20),
)
""",
    'vitpose': """\
model = dict(
    backbone=tower,
    head=dict(
        in_channels={width}, deconv_out_channels=(16, 16),
    ),
)
""",
}


def shrunken(path: Path) -> str:
    """Return the text of a config that makes one of ours small."""
    sizes = dict(
        path=str(path),
        width=WIDTH,
        heads=HEADS,
        mlp=2 * WIDTH,
        depth=24 if 'clip-l' in path.name else 12,
    )
    kind = path.name.split('_')[1]
    parts = [COMMON.format(**sizes), TEST_LOADER]
    if kind == 'zeroshot':
        return ''.join(parts)
    parts += [TRAIN_LOADERS, BACKBONE.format(**sizes), UNLOADED]
    if path.parent.name == 'mmseg':
        parts.append(SEG_HEADS)
    parts.append(MODELS[kind].format(**sizes))
    if path.parent.name == 'mmseg' or kind == 'mask-rcnn':
        parts.append(ITERATIONS)
    else:
        parts.append('train_cfg = dict(max_epochs=1, val_interval=9)\n')
        parts.append("train_dataloader['dataset'] = dict(indices=2)\n")
        parts.append("default_hooks['checkpoint'] = dict(interval=1)\n")
    if kind == 'vitpose':
        parts.append(
            "found = dict(bbox_file='data/coco/detections.json')\n"
            "test_dataloader['dataset'] = found\n"
            "val_dataloader['dataset'] = found\n"
            "visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])\n"
        )
    return ''.join(parts)
