"""Comparison of a checkpoint's settings with a config's.

mmengine silently lets the state in a checkpoint replace the config's learning
rates, weight decays and schedules. Other settings that affect training, such
as the batch size, are not in that state; ``meta['settings']`` records them.
"""

import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import Runner

from mmclip.engine.resume.plain_values import plain, same
from mmclip.engine.resume.run_settings import (
    LENGTH,
    NOT_COMPARED,
    NOT_SET,
    read_settings,
    schedulers_by_key,
    wrappers_by_key,
)
from mmclip.errors import CheckpointError

KEY = 'settings'
# Sections that cannot change at all ('state'), or only between epochs.
KINDS = dict(loop='state', optimizer='state', data='data')
# Sections in which a missing key means nothing: it was unknown, or torch has
# another version.
IN_PART = ('data', 'defaults')
# What the state of schedulers holds besides settings.
PROGRESS = {
    'base_values',
    'best',
    'cooldown_counter',
    'last_step',
    'num_bad_epochs',
    'verbose',
    '_global_step',
    '_last_value',
}
# States of torch's optimizers that have the parameter's shape.
PARAMETER_LIKE = {
    'exp_avg',
    'exp_avg_sq',
    'max_exp_avg_sq',
    'momentum_buffer',
    'sum',
}
SCALER = ('growth_factor', 'backoff_factor', 'growth_interval')


@dataclass(frozen=True)
class Difference:
    """A setting that differs between a run and its checkpoint.

    Args:
        key (str): The setting, named as in configs if possible.
        old (Any): The checkpoint's value.
        new (Any): The config's value.
        kind (str): ``'setting'`` can change at any iteration, ``'data'`` only
            between two epochs, ``'state'`` never in a resumed run; ``'end'``,
            of a schedule that lasts beyond the checkpoint, has made no
            difference so far.
    """

    key: str
    old: Any
    new: Any
    kind: str = 'setting'

    def __str__(self) -> str:
        """Show both values, shortened."""
        old, new = (
            value if value == NOT_SET else reprlib.repr(value)
            for value in (self.old, self.new)
        )
        return f'{self.key} was {old} and is {new}'


def find_differences(runner: Runner, checkpoint: Mapping) -> list[Difference]:
    """Compare a run with the checkpoint that it resumes from."""
    meta = _typed(checkpoint['meta'], dict, 'meta')
    for key in 'epoch', 'iter':
        _typed(meta.get(key), int, f"meta['{key}']")
    found = list(_compare_notes(read_note(checkpoint), read_settings(runner)))
    seeds = meta.get('seed'), runner._randomness_cfg.get('seed')
    if None not in seeds and seeds[0] != seeds[1]:
        found.append(Difference('randomness.seed', *seeds, 'data'))
    seen = {difference.key for difference in found}
    for key, wrapper in wrappers_by_key(runner).items():
        if f'{key}.optimizer.type' not in seen:
            state = _part(checkpoint['optimizer'], key, 'optimizer')
            found += _compare_optimizers(state, wrapper, key, seen)
    for key, schedulers in schedulers_by_key(runner).items():
        states = checkpoint.get('param_schedulers') or []
        if states:
            states = _part(states, key, 'param_schedulers')
        found += _compare_schedules(states, schedulers, key, seen)
    return found


def read_note(checkpoint: Mapping) -> dict[str, Any]:
    """Read a checkpoint's settings, or what an older one has elsewhere."""
    note = checkpoint['meta'].get(KEY)
    if note is not None:
        return _typed(note, dict, f"meta['{KEY}']")
    try:
        runtime = checkpoint['message_hub']['runtime_info']
        length, rest = divmod(runtime['max_iters'], runtime['max_epochs'])
    except (KeyError, TypeError, ZeroDivisionError):
        return {}
    return {} if rest else dict(data={LENGTH: length})


def read_sampler_seed(checkpoint: Mapping) -> int | None:
    """Read the seed of the order of images, if it is recorded."""
    seed = read_note(checkpoint).get('sampler_seed')
    return seed if seed is None else _typed(seed, int, 'sampler_seed')


def _compare_notes(old: dict, new: dict) -> Iterator[Difference]:
    for section in new:
        if section not in old:
            continue  # an earlier version, or a runner without a config
        noted = _typed(old[section], dict, f"meta['{KEY}'][{section!r}]")
        kind = KINDS.get(section, 'setting')
        for key in sorted({*noted, *new[section]}, key=str):
            one = plain(noted.get(key, NOT_SET))
            other = new[section].get(key, NOT_SET)
            if section in IN_PART and NOT_SET in (one, other):
                continue
            if not same(one, other):
                yield Difference(key, one, other, kind)


def _compare_optimizers(
    state: dict, wrapper: OptimWrapper, key: str, seen: set[str]
) -> Iterator[Difference]:
    new = wrapper.optimizer.param_groups
    old = [
        _typed(group, dict, f'{key} (group)')
        for group in _typed(
            state.get('param_groups'), list, f'{key} (param_groups)'
        )
    ]
    was, is_now = ([len(g.get('params', ())) for g in x] for x in (old, new))
    if was != is_now:
        place = f'{key} (parameters in each group)'
        yield Difference(place, was, is_now, 'state')
        return
    _check_shapes(_typed(state.get('state'), dict, f'{key} (state)'), old, new)
    # From the last: with layer decay, the head's group.
    for i in reversed(range(len(new))):
        one, other = _hyperparameters(old[i]), _hyperparameters(new[i])
        for name in other:
            place = f'{key}.optimizer.{name}'
            if place in seen or same(one.get(name, other[name]), other[name]):
                continue
            seen.add(place)
            where = f' (parameter group {i})' if len(new) > 1 else ''
            yield Difference(f'{place}{where}', one[name], other[name])
    scaler = getattr(wrapper, 'loss_scaler', None)
    saved = state.get('loss_scaler') or {}
    fresh = scaler.state_dict() if scaler is not None else {}
    for name in SCALER:
        pair = saved.get(name), fresh.get(name)
        if None not in pair and not same(*pair):
            yield Difference(f'{key}.loss_scale.{name}', *pair)


def _check_shapes(states: dict, old: list[dict], new: list[dict]) -> None:
    """Refuse averages that do not fit: torch's fused steps do not look."""
    for was, is_now in zip(old, new, strict=True):
        numbers, params = was.get('params', ()), is_now['params']
        names = is_now.get('param_names', numbers)
        for name, number, param in zip(names, numbers, params, strict=True):
            values = _typed(states.get(number, {}), dict, f'state of {name}')
            for key in PARAMETER_LIKE & values.keys():
                shape = getattr(values[key], 'shape', None)
                if values[key] is not None and shape != param.shape:
                    raise CheckpointError(
                        'The checkpoint cannot be resumed from: the '
                        f"optimizer's {key} of {name} has shape {shape}, but "
                        f'the parameter {param.shape}. To start from its '
                        'weights, set load_from.'
                    )


def _hyperparameters(group: dict) -> dict[str, Any]:
    """Return a parameter group's settings before schedules change them."""
    values = {
        name: plain(value)
        for name, value in group.items()
        if isinstance(name, str)
        and name not in ('params', 'param_names', *NOT_COMPARED)
    }
    for key in [key for key in values if key.startswith('initial_')]:
        name = key.removeprefix('initial_')
        values[name] = values.pop(key)
        for bound in 'max', 'min':  # OneCycleLR's
            values.pop(f'{bound}_{name}', None)
    betas = values.get('betas')
    if 'initial_momentum' in group and isinstance(betas, list):
        values['betas'] = [values.pop('momentum'), *betas[1:]]
    return values


def _compare_schedules(
    states: list,
    schedulers: list[_ParamScheduler],
    key: str,
    seen: set[str],
) -> Iterator[Difference]:
    if len(states) != len(schedulers):
        place = f'{key} (number of schedules)'
        yield Difference(place, len(states), len(schedulers))
        return
    for i, scheduler in enumerate(schedulers):
        if f'{key}.{i}.type' in seen:
            continue
        state = _typed(states[i], dict, f'{key}.{i}')
        old, new = _schedule(state), _schedule(scheduler.state_dict())
        # Private ones, which repeat others, come last.
        for name in sorted({*old, *new}, key=lambda x: (x[:1] == '_', x)):
            one, other = old.get(name, NOT_SET), new.get(name, NOT_SET)
            if not same(one, other):
                place = f'{key}.{i}.{name.strip("_")}'
                kind = 'setting'
                if name == 'end' and isinstance(one, int | float):
                    done = _typed(state.get('_global_step'), int, place)
                    kind = 'end' if done <= min(one, other) else kind
                yield Difference(place, one, other, kind)


def _schedule(state: dict) -> dict[str, Any]:
    """Return the settings in a schedule's state, as built or as written."""
    return {
        name: plain(
            # Checkpoints have its Counter as a dict.
            Counter(value)
            if name == 'milestones' and isinstance(value, Mapping)
            else value
        )
        for name, value in state.items()
        if isinstance(name, str)
        and name not in PROGRESS
        and not callable(value)  # recorded by read_settings instead
    }


def _part(value: Any, key: str, name: str) -> Any:
    """Return the state of one of several optimizers, or of the only one."""
    _, _, part = key.partition('.')
    if part:
        value = _typed(value, dict, name).get(part)
    return _typed(value, dict if name == 'optimizer' else list, name)


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise CheckpointError(
            f'The checkpoint cannot be resumed from: its {name} should be a '
            f'{kind.__name__} but is a {type(value).__name__}. To start from '
            'its weights, set load_from.'
        )
    return value
