"""Runs of tools/train.py that are disturbed."""

import functools
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmclip.checkpoint import read_checkpoint
from tests import processes as processes_
from tests.conftest import REPOSITORY
from tests.processes import Process, finish

TRAIN = REPOSITORY / 'tools' / 'train.py'
CONFIG = """
_base_ = ['{base}']
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmclip.SeedSample'),
    dict(type='RandomResizedCrop', scale=16),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers={workers},
    persistent_workers={workers} > 0,
    dataset=dict(
        type='CustomDataset', data_root='images', pipeline=pipeline
    ),
    sampler=dict(type='mmclip.{sampler}', shuffle=True),
    collate_fn=dict(type='default_collate'),
)
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2, mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='mmclip.CLIPVisionTransformer',
        arch=dict(width=32, depth=2, num_heads=2, mlp_width=64),
        act='gelu', img_size=16, patch_size=8,
        drop_path_rate=0.3, patch_dropout=0.3,
    ),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=32),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(
        type='CustomDataset', data_root='images', pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(16, 16)),
            dict(type='PackInputs'),
        ]
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
val_cfg = dict()
optim_wrapper = dict(
    type='{optim_wrapper}',
    accumulative_counts={accumulated},
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
)
param_scheduler = dict(type='CosineAnnealingLR', T_max=40, by_epoch=False)
train_cfg = dict({train_cfg}, val_interval={val_interval})
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(
        type='mmclip.ReliableCheckpointHook',
        by_epoch={by_epoch}, interval={interval}, max_keep_ckpts=1,
        save_best='auto',
    ),
    disturb=dict(type='Disturb'),
)
custom_imports = dict(imports=['disturb'])
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
"""
# DISTURB says where and by which signal all processes of a run are disturbed:
# 'train 7 SIGKILL' in an iteration, 'val 8 SIGTERM' in a validation after so
# many, 'write epoch_3.pth SIGKILL' half-way. PAUSE is how many seconds a step
# and each eighth of a file take, for what comes from outside.
DISTURB = """
import os
import signal
import time
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.engine.resume.atomic_backend import AtomicLocalBackend

WHERE, AT, SIGNAL = os.environ.get('DISTURB', 'never at SIGKILL').split()
PAUSE = float(os.environ.get('PAUSE', 0))

def disturb(where, at):
    if (where, str(at)) == (WHERE, AT):
        os.killpg(0, signal.Signals[SIGNAL])
    if PAUSE:
        time.sleep(PAUSE)

@HOOKS.register_module()
class Disturb(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        disturb('train', runner.iter)

    def after_val_iter(self, runner, *args, **kwargs):
        disturb('val', runner.iter)

def put(self, content, path):
    size = len(content) // 8 + 1
    with atomic_file(path) as temporary, open(temporary, 'wb') as file:
        for i in range(0, len(content), size):
            file.write(content[i : i + size])
            file.flush()
            disturb('write', os.path.basename(path))

AtomicLocalBackend.put = put
"""
EPOCHS = "type='EpochBasedTrainLoop', max_epochs=5"
ITERS = "type='IterBasedTrainLoop', max_iters=20"
PLAIN = dict(
    train_cfg=EPOCHS,
    by_epoch=True,
    interval=1,
    val_interval=1,
    accumulated=1,
    sampler='ResumableSampler',
    optim_wrapper='OptimWrapper',
)
# Checkpoints at the ends of epochs (of four iterations, or of two with two
# processes), in the middle of epochs, and by iterations; steps of two passes,
# of one, and of three.
WAYS = {
    'epochs': PLAIN | dict(accumulated=2),
    'mid-epoch': PLAIN | dict(by_epoch=False, interval=3),
    'iterations': PLAIN
    | dict(
        train_cfg=ITERS,
        by_epoch=False,
        interval=3,
        val_interval=6,
        accumulated=3,
        sampler='ResumableInfiniteSampler',
        optim_wrapper='mmclip.BFloat16OptimWrapper',
    ),
}


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder to run in: sixteen images of two classes, DISTURB."""
    return make_images(tmp_path)


@pytest.fixture(scope='session')
def whole(tmp_path_factory) -> Callable[..., Path]:
    """What a run of a way leaves that nobody disturbs; made once each.

    The number of data workers makes no difference.
    """

    @functools.cache
    def run(way: str, processes: int = 1) -> Path:
        folder = make_images(tmp_path_factory.mktemp('whole'))
        write_config(folder, way, workers=0)
        finish(start(folder, 'whole', processes))
        return folder / 'whole'

    return run


def make_images(folder: Path) -> Path:
    pixels = np.random.default_rng(0)
    for i in range(16):
        path = folder / 'images' / 'ab'[i % 2] / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image = pixels.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(image).save(path)
    (folder / 'disturb.py').write_text(DISTURB)
    return folder


def write_config(folder: Path, way: str, workers: int) -> None:
    text = CONFIG.format(
        base=REPOSITORY / 'configs' / '_base_' / 'default_runtime.py',
        workers=workers,
        **WAYS[way],
    )
    (folder / 'config.py').write_text(text)


def start(
    folder: Path,
    work_dir: str,
    processes: int = 1,
    config: str = 'config.py',
    options: Sequence[str] = (),
    **environment: str,
) -> Process:
    """Train by a config in a folder, and go on with what is there."""
    if processes > 1:
        options = [*options, '--launcher', 'pytorch']
    return processes_.start(
        *(TRAIN, config, '--work-dir', work_dir, '--resume', *options),
        cwd=folder,
        env=os.environ | dict(PYTHONPATH=str(folder)) | environment,
        ranks=processes if processes > 1 else 0,
    )


def is_killed(run: Process) -> bool:
    """Wait for its end."""
    run.communicate()
    return run.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)


def raised(log: str) -> bool:
    """Whether an exception came out of the tool.

    When it exits, Python may also complain of a pipe that two of its threads
    close at once.
    """
    return 'tools/train.py", line' in log


def final_checkpoint(work_dir: Path) -> dict:
    """Of the last epoch or iteration, but for Ctrl-C's in a run by epochs."""
    paths = sorted(work_dir.glob('epoch_*.pth')) or work_dir.glob('iter_*.pth')
    return read_checkpoint(max(paths, key=lambda p: int(p.stem.split('_')[1])))


def assert_end_alike(one: Path, other: Path) -> None:
    """The final checkpoints and the best of two runs are identical."""
    final = final_checkpoint(one)
    assert_identical(final, final_checkpoint(other))
    # A kill between writing and deleting leaves an older one, too.
    runtime = final['message_hub']['runtime_info']
    best = one / Path(runtime['best_ckpt']).name
    (wanted,) = other.glob('best_*.pth')
    assert best.name == wanted.name
    torch.testing.assert_close(
        read_checkpoint(best)['state_dict'],
        read_checkpoint(wanted)['state_dict'],
        rtol=0,
        atol=0,
    )


def assert_identical(one: dict, other: dict) -> None:
    assert one['meta']['iter'] == other['meta']['iter']
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        torch.testing.assert_close(
            one[part], other[part], rtol=0, atol=0, msg=part
        )
