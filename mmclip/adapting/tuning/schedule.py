"""How much is trained: in full, as far as the time allows, or as told."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from mmclip.adapting.tuning.files import Task
from mmclip.adapting.tuning.plan import (
    SHORTEST,
    VALIDATIONS,
    make_plan,
    shape_of,
    stages_to_freeze,
)
from mmclip.adapting.tuning.timing import measure_speed
from mmclip.adapting.tuning.wise_ft import ALPHAS


@dataclass(frozen=True)
class Schedule:
    """A training whose config is written.

    Args:
        steps (int): Steps of the optimizer.
        settings (dict): The plan, or the config that it follows.
        estimated (float): Seconds that it should take, with its tests.
        fitted (str): A sentence about what the machine had time for; empty if
            that did not matter.
    """

    steps: int
    settings: dict[str, Any]
    estimated: float
    fitted: str = ''


def schedule(
    task: Task,
    recipe: str,
    seconds: float,
    images: int,
    say: Callable[[str], None],
) -> Schedule | None:
    """Set up a training by its recipe, and say how long it should take.

    Args:
        task (Task): What is trained.
        recipe (str): ``'auto'``, ``'full'`` or the path of a config.
        seconds (float): The time for ``'auto'``.
        images (int): How many are tested in the end.
        say (Callable): Prints a line for the user.

    Returns:
        Schedule | None: None if there is not enough time.
    """
    held_out = len(task.images.rows('val'))
    tested = images + held_out * (VALIDATIONS + len(ALPHAS))
    if recipe == 'auto':
        found = _in_time(task, seconds, tested, say)
    elif recipe == 'full':
        found = _in_full(task, tested)
    else:
        found = _by_config(task, recipe, tested)
    if found is not None:
        say(
            f'fine-tuning: {found.steps:,} steps, about '
            f'{_minutes(found.estimated)}' + (' at most' if held_out else '')
        )
    return found


def _in_time(
    task: Task, seconds: float, tested: int, say: Callable[[str], None]
) -> Schedule | None:
    """Train as many blocks and steps as there is time for."""
    width, depth = shape_of(task.encoder.state_dict)
    plan = make_plan(len(task.images.rows('train')), width)
    for frozen in stages_to_freeze(depth, gpu=torch.cuda.is_available()):
        plan = replace(plan, frozen_stages=frozen)
        speed = measure_speed(task.write_plan(plan))
        fit = int((seconds - tested * speed.image) / speed.step)
        if fit >= plan.steps:
            break
    else:
        if fit < SHORTEST * plan.steps:
            needed = speed.total(plan.steps, tested)
            say(
                f'not fine-tuned: it would take {_minutes(needed)}; '
                f'allow it with --time {_minutes(1.2 * needed)}'
            )
            return None
        plan = plan.shortened(fit)
        task.write_plan(plan)
    blocks = f'{max(plan.frozen_stages, 0)} of {depth} blocks frozen'
    return Schedule(
        plan.steps,
        asdict(plan),
        speed.total(plan.steps, tested),
        f'Fine-tuning was fitted into {_minutes(seconds)} on this machine: '
        f'{plan.steps:,} steps, {blocks}. Another machine may train more or '
        'less.',
    )


def _in_full(task: Task, tested: int) -> Schedule:
    """Train all blocks in all steps."""
    width, _ = shape_of(task.encoder.state_dict)
    plan = make_plan(len(task.images.rows('train')), width)
    speed = measure_speed(task.write_plan(plan))
    return Schedule(plan.steps, asdict(plan), speed.total(plan.steps, tested))


def _by_config(task: Task, path: str, tested: int) -> Schedule:
    """Train as a user's config says."""
    width, _ = shape_of(task.encoder.state_dict)
    plan = make_plan(len(task.images.rows('train')), width)
    cfg = task.write_recipe(path, plan)
    speed, steps = measure_speed(cfg), cfg.train_cfg.max_iters
    return Schedule(steps, dict(config=path), speed.total(steps, tested))


def _minutes(seconds: float) -> str:
    """Format a time as ``--time`` takes it."""
    if seconds < 100:
        return f'{max(1, round(seconds))}s'
    return f'{math.ceil(seconds / 60)}min'
