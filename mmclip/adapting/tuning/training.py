"""The training itself, by mmengine's runner, and whether it has learned."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmclip.adapting.choice import interval
from mmclip.adapting.run_files.config_file import METRICS
from mmclip.adapting.tuning.files import Task
from mmclip.engine.config.build import build_runner, naming_the_config
from mmclip.engine.config.load import complete_dataloaders, load_config
from mmclip.engine.progress_hook import close_progress
from mmclip.engine.resume.checkpoints_of_run import checkpoints_of
from mmclip.engine.resume.find_checkpoint import has_checkpoints

LAST = 0.2  # the share of the steps whose loss says whether it has learned


@dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Args:
        runner (Runner): What trained it.
        best (str): The checkpoint that was best on the images held out, or
            the last one.
        numbers (dict): What ``metrics.json`` says of it.
    """

    runner: Runner
    best: str
    numbers: dict[str, Any]


def train(task: Task, log: Path, say: Callable[[str], None]) -> Trained:
    """Train as the config in the folder of the task says.

    A training that was stopped goes on where it stopped.

    Args:
        task (Task): What is trained.
        log (Path): The log of the run, to which that of the training is
            added.
        say (Callable): Prints a line for the user.
    """
    cfg = load_config(task.folder.config)
    cfg.log_level = 'WARNING'
    complete_dataloaders(cfg, pin_memory=torch.cuda.is_available())
    if has_checkpoints(cfg):
        cfg.resume, cfg.load_from = True, None
    runner = build_runner(cfg)
    try:
        _run(runner, cfg, log)
    except KeyboardInterrupt:
        close_progress(runner)
        raise
    finally:
        _end_log(runner, log)
    numbers = _numbers(runner, task)
    if not numbers['learned']:
        say(
            'fine-tuning has not learned: its loss or accuracy is within '
            'noise of guessing. Try more images per class, a lower rate '
            '(--recipe with a copy of config.py), or --recipe light.'
        )
    return Trained(runner, next(iter(checkpoints_of(runner))), numbers)


def has_learned(
    losses: np.ndarray, num_classes: int, right: tuple[int, int] | None
) -> bool:
    """Tell whether a training's end is better than chance, beyond noise.

    Args:
        losses (np.ndarray): The loss of each step.
        num_classes (int): K; the loss of chance is ln K.
        right (tuple[int, int] | None): Right ones of how many validation
            images, if there are any.
    """
    last = losses[-max(2, math.ceil(LAST * len(losses))) :]
    error = last.std() / math.sqrt(len(last))
    if not last.mean() + 2 * error < math.log(num_classes):
        return False
    return right is None or interval(*right)[0] > 100 / num_classes


def _run(runner: Runner, cfg: Config, log: Path) -> None:
    with (
        naming_the_config(cfg),
        open(log, 'a', encoding='utf-8') as whole,
        contextlib.redirect_stdout(whole),  # mmengine prints a line
    ):
        try:
            runner.train()
        finally:
            _end_workers(runner)


def _end_workers(runner: Runner) -> None:
    """End the processes that load images, by forgetting their loaders.

    Left to the garbage collector, torch waits five seconds for each.
    """
    for loop in runner._train_loop, runner._val_loop:
        for name in ('dataloader_iterator', 'dataloader'):
            if hasattr(loop, name):
                setattr(loop, name, None)


def _end_log(runner: Runner, log: Path) -> None:
    """Add the runner's log to that of the run, and end it."""
    file = runner.logger.log_file
    with open(log, 'a', encoding='utf-8') as whole:
        whole.write(Path(file).read_text('utf-8'))
    # What is logged from now on goes where it went before.
    logger: Any = MMLogger._instance_dict.pop(runner.experiment_name)
    for handler in logger.handlers:
        handler.close()


def _numbers(runner: Runner, task: Task) -> dict[str, Any]:
    """Collect the curves of a training, and tell whether it has learned."""
    num_classes = len(task.images.classes)
    held_out = len(task.images.rows('val'))
    scalars = runner.message_hub.log_scalars
    losses = scalars['train/loss'].data[0]
    found = scalars.get(f'val/{METRICS[task.images.several_labels]}')
    accuracies = [] if found is None else found.data[0].tolist()
    every = runner.cfg.train_cfg.get('val_interval', 1)
    right = None
    if accuracies:
        right = round(max(accuracies) / 100 * held_out), held_out
    return dict(
        steps=[
            dict(step=i + 1, loss=round(float(loss), 4))
            for i, loss in enumerate(losses)
        ],
        validation=[
            dict(step=min((i + 1) * every, len(losses)), accuracy=accuracy)
            for i, accuracy in enumerate(accuracies)
        ],
        chance_loss=math.log(num_classes),
        learned=has_learned(losses, num_classes, right),
    )
