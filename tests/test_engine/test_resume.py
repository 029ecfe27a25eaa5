"""Runs that are killed end like runs that are not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmclip.checkpoint import read_checkpoint
from tests.conftest import REPOSITORY

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
    slow=dict(type='SlowDown'),
)
custom_imports = dict(imports=['slow_down'])
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
"""
# So that a kill has something to hit: steps and writing take their time. And
# kills that are sure to hit: DIE_WRITING names the file that is half written,
# DIE_VALIDATING the iteration that is being validated; and Ctrl-C at that of
# INTERRUPT_VALIDATING.
SLOW_DOWN = """
import os
import signal
import time
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmclip.checkpoint.atomic import atomic_file
from mmclip.engine.atomic_backend import AtomicLocalBackend

def die():
    if is_main_process():  # the others do not wait for it to write
        os.kill(os.getpid(), signal.SIGKILL)

@HOOKS.register_module()
class SlowDown(Hook):
    def after_train_iter(self, *args, **kwargs):
        time.sleep(0.05)

    def after_val_iter(self, runner, *args, **kwargs):
        if os.environ.get('DIE_VALIDATING') == str(runner.iter):
            die()
        if os.environ.get('INTERRUPT_VALIDATING') == str(runner.iter):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

def slow_put(self, content, path):
    size = len(content) // 8 + 1
    with atomic_file(path) as temporary, open(temporary, 'wb') as file:
        for i in range(0, len(content), size):
            file.write(content[i : i + size])
            file.flush()
            if os.path.basename(path) == os.environ.get('DIE_WRITING'):
                die()
            time.sleep(0.03)

AtomicLocalBackend.put = slow_put
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
# processes), in the middle of steps, in the middle of epochs, and by
# iterations.
WAYS = {
    'epochs': PLAIN | dict(accumulated=3),
    'mid-epoch': PLAIN | dict(by_epoch=False, interval=3),
    'iterations': PLAIN
    | dict(
        train_cfg=ITERS,
        by_epoch=False,
        interval=3,
        val_interval=6,
        sampler='ResumableInfiniteSampler',
        optim_wrapper='mmclip.BFloat16OptimWrapper',
    ),
}


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder with sixteen images of two classes, and the slow hook."""
    pixels = np.random.default_rng(0)
    for i in range(16):
        folder = tmp_path / 'images' / 'ab'[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = pixels.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f'{i}.png')
    (tmp_path / 'slow_down.py').write_text(SLOW_DOWN)
    return tmp_path


def write_config(folder: Path, way: str, workers: int) -> None:
    text = CONFIG.format(
        base=REPOSITORY / 'configs' / '_base_' / 'default_runtime.py',
        workers=workers,
        **WAYS[way],
    )
    (folder / 'config.py').write_text(text)


def start(
    folder: Path, work_dir: str, processes: int, **environment: str
) -> subprocess.Popen:
    launcher = [sys.executable]
    options = ['--resume']
    if processes > 1:
        launcher += [TRAIN.with_name('launch.py'), '--standalone']
        launcher += [f'--nproc_per_node={processes}']
        options += ['--launcher', 'pytorch']
    return subprocess.Popen(
        [*launcher, TRAIN, 'config.py', '--work-dir', work_dir, *options],
        cwd=folder,
        env=os.environ
        | dict(PYTHONPATH=str(folder), OMP_NUM_THREADS='1')
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(run: subprocess.Popen) -> str:
    """Wait for it; returns its log."""
    log, _ = run.communicate(timeout=300)
    assert run.returncode == 0, log
    return log


def kill_in_training(run: subprocess.Popen, seconds: float) -> None:
    """SIGKILL to all processes, some time after the first iteration."""
    for line in run.stdout:
        if '(train)' in line:
            break
    time.sleep(seconds)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


def final_checkpoint(folder: Path, work_dir: str) -> dict:
    paths = [
        path
        for path in (folder / work_dir).glob('*_*.pth')
        if not path.name.startswith('best')
    ]
    return read_checkpoint(
        max(paths, key=lambda path: int(path.stem.split('_')[1]))
    )


def best_checkpoint(folder: Path, work_dir: str) -> tuple[str, dict]:
    """Its name, and what is in it."""
    (path,) = (folder / work_dir).glob('best_*.pth')
    return path.name, read_checkpoint(path)['state_dict']


def assert_identical(one: dict, other: dict) -> None:
    assert one['meta']['iter'] == other['meta']['iter']
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        torch.testing.assert_close(
            one[part], other[part], rtol=0, atol=0, msg=part
        )


def assert_best_identical(folder: Path, one: str, other: str) -> None:
    name, weights = best_checkpoint(folder, one)
    wanted_name, wanted = best_checkpoint(folder, other)
    assert name == wanted_name
    torch.testing.assert_close(weights, wanted, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('processes', [1, 2])
def test_a_killed_run_ends_bit_identical(images, way, workers, processes):
    write_config(images, way, workers)
    finish(start(images, 'whole', processes))
    wanted = final_checkpoint(images, 'whole')
    kills = random.Random(f'{way} {workers} {processes}')
    for _ in range(2):
        run = start(images, 'killed', processes)
        kill_in_training(run, kills.uniform(0.1, 1.2))
    finish(start(images, 'killed', processes))
    assert_identical(final_checkpoint(images, 'killed'), wanted)
    assert_best_identical(images, 'killed', 'whole')
    assert not list((images / 'killed').glob('.mmclip-tmp-*'))


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
@pytest.mark.parametrize(
    ('moment', 'log'),
    [
        (dict(DIE_WRITING='epoch_3.pth'), 'killed/epoch_2.pth.'),
        (dict(DIE_VALIDATING='{3 epochs}'), 'Validate iteration {3 epochs}'),
        (dict(DIE_VALIDATING='{5 epochs}'), 'Validate iteration {5 epochs}'),
    ],
)
def test_killed_while_writing_or_validating(images, moment, log, processes):
    """At an epoch in between, and at the last."""
    length = 4 // processes
    name, at = dict(moment).popitem()
    for epochs in 3, 5:
        at = at.replace(f'{{{epochs} epochs}}', str(epochs * length))
        log = log.replace(f'{{{epochs} epochs}}', str(epochs * length))
    write_config(images, 'epochs', 0)
    finish(start(images, 'whole', processes))
    run = start(images, 'killed', processes, **{name: at})
    run.communicate(timeout=300)
    assert run.returncode != 0
    if name == 'DIE_WRITING':
        assert list((images / 'killed').glob('.mmclip-tmp-*'))
        assert not (images / 'killed' / at).exists()
    assert log in finish(start(images, 'killed', processes))
    assert_identical(
        final_checkpoint(images, 'killed'), final_checkpoint(images, 'whole')
    )
    assert_best_identical(images, 'killed', 'whole')


@pytest.mark.slow
@pytest.mark.parametrize(
    ('way', 'workers', 'last'),
    [
        ('epochs', 0, 'epoch_5.pth'),
        ('epochs', 2, 'epoch_5.pth'),
        ('iterations', 2, 'iter_20.pth'),
    ],
)
def test_ctrl_c_leaves_a_checkpoint(images, way, workers, last):
    write_config(images, way, workers)
    finish(start(images, 'whole', 1))
    run = start(images, 'interrupted', 1)
    for line in run.stdout:
        if '(train)' in line:
            break
    time.sleep(0.4)
    os.killpg(run.pid, signal.SIGINT)
    log, _ = run.communicate(timeout=60)
    assert run.returncode == 130, log
    assert 'Traceback' not in log
    assert 'Interrupted; writing iter_' in log
    finish(start(images, 'interrupted', 1))
    assert_identical(
        read_checkpoint(images / 'interrupted' / last),
        read_checkpoint(images / 'whole' / last),
    )


@pytest.mark.slow
def test_ctrl_c_in_validation_leaves_a_checkpoint(images):
    """The averaged weights stand in for the model's then."""
    write_config(images, 'epochs', 0)
    text = (images / 'config.py').read_text()
    text = text.replace('interval=1, max', 'interval=9, max')
    (images / 'config.py').write_text(text)
    finish(start(images, 'whole', 1))
    run = start(images, 'interrupted', 1, INTERRUPT_VALIDATING='12')
    log, _ = run.communicate(timeout=60)
    assert run.returncode == 130, log
    assert (images / 'interrupted' / 'iter_12.pth').exists()
    log = finish(start(images, 'interrupted', 1))
    assert 'Validate iteration 12' in log
    assert_identical(
        read_checkpoint(images / 'interrupted' / 'epoch_5.pth'),
        read_checkpoint(images / 'whole' / 'epoch_5.pth'),
    )
    assert_best_identical(images, 'interrupted', 'whole')


@pytest.mark.slow
def test_without_the_sampler_it_would_end_otherwise(images):
    """What the comparison above would see."""
    write_config(images, 'mid-epoch', 0)
    finish(start(images, 'whole', 1))
    text = (images / 'config.py').read_text()
    text = text.replace('mmclip.ResumableSampler', 'DefaultSampler')
    (images / 'config.py').write_text(text)
    kill_in_training(start(images, 'killed', 1), 0.7)
    finish(start(images, 'killed', 1))
    with pytest.raises(AssertionError):
        assert_identical(
            final_checkpoint(images, 'killed'),
            final_checkpoint(images, 'whole'),
        )
