"""The memory, open files and logging time of a long training run."""

import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmclip.engine.config.load import load_config
from mmclip.shipped import shipped

RUNTIME = shipped('configs/_base_/default_runtime.py')
CONFIG = """
_base_ = ['{runtime}']
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmclip.SeedSample'),
    dict(type='RandomResizedCrop', scale=16),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers={workers},
    persistent_workers={workers} > 0,
    dataset=dict(
        type='CustomDataset', data_root='{images}', pipeline=pipeline
    ),
    sampler=dict(type='mmclip.ResumableInfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
)
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2, mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='mmclip.CLIPVisionTransformer',
        arch=dict(width=16, depth=1, num_heads=1, mlp_width=16),
        act='gelu', img_size=16, patch_size=8,
    ),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=16),
)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3), clip_grad=dict(max_norm=1.0)
)
param_scheduler = dict(
    type='CosineAnnealingLR', T_max={iterations}, by_epoch=False
)
train_cfg = dict(by_epoch=False, max_iters={iterations})
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=False, interval={interval}, save_best=None),
)
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
work_dir = '{work_dir}'
"""


class HealthHook(Hook):
    """A hook that measures the process and its children during a run."""

    priority = 'LOWEST'

    def __init__(self, interval: int):
        self.interval = interval
        self.rows: list[dict[str, Any]] = []

    def before_train(self, runner: Runner) -> None:
        """Start timing the calls that log."""
        self._seconds = 0.0
        hub = runner.message_hub
        update = hub.update_scalar

        def timed(*args: Any, **kwargs: Any) -> None:
            start = time.perf_counter()
            update(*args, **kwargs)
            self._seconds += time.perf_counter() - start

        hub.update_scalar = timed

    def after_train_iter(
        self, runner: Runner, *_: object, **__: object
    ) -> None:
        """Measure at every interval."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        gc.collect()  # Python delays this for thousands of iterations
        workers = children(os.getpid())
        histories = runner.message_hub.log_scalars.values()
        checkpoints = Path(runner.work_dir).glob('iter_*.pth')
        newest = max(checkpoints, key=lambda path: path.stat().st_mtime)
        self.rows.append(
            dict(
                iteration=runner.iter + 1,
                memory=memory(os.getpid()),
                memory_of_workers=sum(map(memory, workers)),
                open_files=open_files(os.getpid()),
                open_files_of_workers=sum(map(open_files, workers)),
                log_length=max(len(h.data[0]) for h in histories),
                log_microseconds=1e6 * self._seconds / self.interval,
                checkpoint_size=newest.stat().st_size / 2**10,
            )
        )
        self._seconds = 0.0


def children(pid: int) -> list[int]:
    """List the running children of a process."""
    text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    return [int(child) for child in text.split()]


def memory(pid: int) -> float:
    """Return the resident memory that is not backed by files, in MiB."""
    status = Path(f'/proc/{pid}/status').read_text()
    line = next(s for s in status.splitlines() if s.startswith('RssAnon'))
    return int(line.split()[1]) / 2**10


def open_files(pid: int) -> int:
    """Count the open file handles of a process."""
    return len(os.listdir(f'/proc/{pid}/fd'))


def train_long(
    iterations: int, workers: int, rows: int
) -> list[dict[str, Any]]:
    """Train a tiny model and measure it.

    Args:
        iterations (int): Length of the training.
        workers (int): Number of data workers.
        rows (int): Number of measurements, at most one per iteration.

    Returns:
        list[dict]: The measurements in chronological order.
    """
    hook = HealthHook(iterations // rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        for i in range(16):
            (folder / 'images' / 'ab'[i % 2]).mkdir(
                parents=True, exist_ok=True
            )
            pixels = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            path = folder / 'images' / 'ab'[i % 2] / f'{i}.png'
            Image.fromarray(pixels).save(path)
        (folder / 'config.py').write_text(
            CONFIG.format(
                runtime=RUNTIME,
                workers=workers,
                images=folder / 'images',
                iterations=iterations,
                interval=min(100, hook.interval),
                work_dir=folder / 'work',
            )
        )
        runner = Runner.from_cfg(load_config(folder / 'config.py'))
        runner.register_hook(hook)
        runner.train()
    return hook.rows
