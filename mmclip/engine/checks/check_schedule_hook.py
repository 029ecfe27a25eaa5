"""Warnings about schedules that do not fit the length of their run."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmclip.engine.resume.run_settings import schedulers_by_key
from mmclip.registry import HOOKS

IN_STEPS = ('begin', 'end', 'T_max', 'total_steps', 'milestones')


@HOOKS.register_module()
class CheckScheduleHook(Hook):
    """A hook that warns about schedules that are cut off, late or early.

    ``train_cfg.max_epochs`` alone makes a run shorter or longer but leaves
    its schedules as they are, so a run may end in its warm-up.
    """

    def before_train(self, runner: Runner) -> None:
        """Compare the lengths, and suggest options that make them fit."""
        if misfits := '; '.join(find_misfits(runner)):
            options = ' '.join(_in_proportion(runner))
            proposal = f' In proportion: --cfg-options {options}'
            runner.logger.warning(
                'The schedule does not fit the length of the run: '
                f'{misfits}.{proposal if options else ""}'
            )


def find_misfits(runner: Runner) -> Iterator[str]:
    """Yield a clause for each schedule that does not fit."""
    for key, schedulers in schedulers_by_key(runner).items():
        for i, scheduler in enumerate(schedulers):
            length, last = _length(runner, scheduler), _last_step(scheduler)
            if scheduler.begin >= length:
                begin = _when(runner, scheduler, scheduler.begin)
                said = f'begins after {begin}, when the run has ended'
            elif last > length:
                end = _when(runner, scheduler, last)
                said = f'is cut off: it lasts until the end of {end}'
            elif last < length and _is_last_decay(scheduler, schedulers):
                end = _when(runner, scheduler, last)
                said = f'is over after {end}, before the run is'
                if last < scheduler.end:  # mmengine continues the cosine
                    said += ', and the rate rises again'
            else:
                continue
            yield f'{key}.{i} ({type(scheduler).__name__}) {said}'


def _length(runner: Runner, scheduler: _ParamScheduler) -> int:
    loop = runner.train_loop
    return loop.max_epochs if scheduler.by_epoch else loop.max_iters


def _last_step(scheduler: Any) -> int:
    """Return the step after which a schedule is over, in its own steps."""
    for name in 'T_max', 'total_steps':  # these count, whatever the end
        if hasattr(scheduler, name):
            return scheduler.begin + getattr(scheduler, name)
    if getattr(scheduler, 'milestones', None):
        return scheduler.begin + max(scheduler.milestones)
    return scheduler.end


def _is_last_decay(scheduler: Any, schedulers: list[_ParamScheduler]) -> bool:
    """Tell whether it anneals, and no later one changes the same value."""
    others = (s for s in schedulers if s.param_name == scheduler.param_name)
    return hasattr(scheduler, 'eta_min') and all(
        other.begin <= scheduler.begin for other in others
    )


def _when(runner: Runner, scheduler: _ParamScheduler, step: int) -> str:
    """Name a step by its epoch if possible, otherwise by its iteration."""
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        length = 1 if scheduler.by_epoch else len(runner.train_dataloader)
        if step % length == 0:
            return f'epoch {step // length}'
    return f'iteration {step}'


def _in_proportion(runner: Runner) -> Iterator[str]:
    """Yield options that stretch a config's schedules to the run's length."""
    configs = runner.cfg.get('param_scheduler')
    schedulers = runner.param_schedulers
    if not configs or not isinstance(schedulers, list):
        return
    single = isinstance(configs, Mapping)
    configs = [configs] if single else configs
    ratio = min(
        _length(runner, scheduler) / _last_step(scheduler)
        for config, scheduler in zip(configs, schedulers, strict=True)
        if set(IN_STEPS) & set(config)
    )
    for i, config in enumerate(configs):
        place = 'param_scheduler' if single else f'param_scheduler.{i}'
        for name in IN_STEPS:
            if config.get(name):
                yield f'{place}.{name}={_scale(config, name, ratio)}'


def _scale(config: Mapping, name: str, ratio: float) -> str:
    value = config[name]
    if isinstance(value, list | tuple):
        return f'[{",".join(str(max(1, round(v * ratio))) for v in value)}]'
    if config.get('convert_to_iter_based'):
        return f'{value * ratio:.4g}'  # may be a fraction of an epoch
    return str(max(1, round(value * ratio)))
