"""Resuming with the learning rates and schedules of another config.

Weights, moments and averages come from the checkpoint; learning rates and
weight decays from there on are those of a run with the new config from its
start.
"""

import warnings
from itertools import chain
from typing import Any

from mmengine.optim import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmclip.engine.resume.resume_check import SCALER, Difference, read_note
from mmclip.engine.resume.run_settings import (
    LENGTH,
    schedulers_by_key,
    wrappers_by_key,
)
from mmclip.errors import some


def apply_new_settings(
    runner: Runner, checkpoint: dict[str, Any], differences: list[Difference]
) -> None:
    """Replace a checkpoint's settings by the run's.

    Args:
        runner (Runner): A runner built from the config; its schedulers are
            brought forward.
        checkpoint (dict): The checkpoint, changed in place before it is
            loaded.
        differences (list[Difference]): Differences between the two, without
            an obstacle (see :func:`find_obstacle`).
    """
    if _depends_on_validation(runner):  # then only ends differ
        for key, schedulers in schedulers_by_key(runner).items():
            states = _part(checkpoint['param_schedulers'], key)
            for state, scheduler in zip(states, schedulers, strict=True):
                state['end'] = scheduler.end
        return
    meta = checkpoint['meta']
    schedulers = list(chain(*schedulers_by_key(runner).values()))
    length = 0
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        length = len(runner.train_dataloader)
    if any(difference.kind == 'data' for difference in differences):
        meta['iter'] = meta['epoch'] * length
        seed = runner._randomness_cfg.get('seed')
        if seed is not None:
            meta['seed'] = seed
    # Beyond the end of the run, rates do not matter.
    done = min(meta['iter'], runner.train_loop.max_iters)
    bring_forward(schedulers, done, meta['epoch'], length)
    for key, wrapper in wrappers_by_key(runner).items():
        saved = _part(checkpoint['optimizer'], key)
        fresh = wrapper.state_dict()
        saved['param_groups'] = [
            dict(new, params=old['params'])
            for old, new in zip(
                saved['param_groups'], fresh['param_groups'], strict=True
            )
        ]
        if 'base_param_settings' in fresh:
            saved['base_param_settings'] = fresh['base_param_settings']
        scaler = fresh.get('loss_scaler') or {}
        if saved.get('loss_scaler'):
            saved['loss_scaler'] |= {
                name: scaler[name] for name in SCALER if name in scaler
            }
    states = {
        key.partition('.')[2]: [scheduler.state_dict() for scheduler in part]
        for key, part in schedulers_by_key(runner).items()
    }
    checkpoint['param_schedulers'] = states.get('', states)


def _part(state: Any, key: str) -> Any:
    """Return the state of one of several optimizers, or of the only one."""
    _, _, part = key.partition('.')
    return state[part] if part else state


def bring_forward(
    schedulers: list[_ParamScheduler], iters: int, epochs: int, length: int
) -> None:
    """Step schedulers as often as a run would have by now.

    Args:
        schedulers (list[_ParamScheduler]): New schedulers.
        iters (int): Number of finished iterations.
        epochs (int): Number of finished epochs.
        length (int): Iterations per epoch; 0 in a loop without epochs.
    """
    by_iteration = [s for s in schedulers if not s.by_epoch]
    by_epoch = [s for s in schedulers if s.by_epoch]
    ended = 0
    with warnings.catch_warnings():
        # torch warns that the optimizer has not stepped before.
        warnings.simplefilter('ignore', UserWarning)
        for done in range(1, iters + 1):
            for scheduler in by_iteration:
                scheduler.step()
            if ended < epochs and done == (ended + 1) * length:
                ended += 1
                for scheduler in by_epoch:
                    scheduler.step()


def find_obstacle(
    runner: Runner, checkpoint: dict[str, Any], differences: list[Difference]
) -> str:
    """Say why a run cannot continue with settings that differ.

    Arguments are those of :func:`apply_new_settings`.

    Returns:
        str: A sentence; empty if it can.
    """
    fixed = [d.key for d in differences if d.kind == 'state']
    if fixed:
        return f'{some(fixed)} cannot change in a resumed run.'
    data = [d.key for d in differences if d.kind == 'data']
    if data and not _is_between_epochs(runner, checkpoint):
        return f'{some(data)} can only change between two epochs.'
    if differences and _depends_on_validation(runner):
        return (
            'It is not known what ReduceOnPlateauLR would have done after the '
            'validations so far.'
        )
    return ''


def _depends_on_validation(runner: Runner) -> bool:
    schedulers = chain(*schedulers_by_key(runner).values())
    return any(getattr(s, 'need_val_args', False) for s in schedulers)


def _is_between_epochs(runner: Runner, checkpoint: dict[str, Any]) -> bool:
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return False
    data = read_note(checkpoint).get('data') or {}
    length = data.get(LENGTH, len(runner.train_dataloader))
    done, epochs = (checkpoint['meta'][key] for key in ('iter', 'epoch'))
    return bool(epochs) and done / epochs == length
