"""The settings that a run trains with, as plain values for checkpoints."""

from collections.abc import Mapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmclip.engine.resume.plain_values import plain

LENGTH = 'train_dataloader (iterations per epoch)'
SAMPLER_SEED = 'train_dataloader.sampler.seed'
BATCH = 'train_dataloader.batch_size x processes'
# Sources of weights and images, saving of memory, testing, and treatment of
# unreadable images, none of which affects what is trained.
NOT_TRAINING = {
    'backend_args',
    'file_client_args',
    'init_cfg',
    'max_errors',
    'on_error',
    'pretrained',
    'test_cfg',
    'with_cp',
}
# How torch computes a step. A resumed run goes on as its checkpoint did.
NOT_COMPARED = ('foreach', 'fused')
NOT_SET = 'not set'

Settings = dict[str, dict[str, Any]]  # by section, then by key


def read_settings(runner: Runner) -> Settings:
    """Read a run's settings, besides the state of optimizer and schedulers.

    Files are described by their names, so that they may be moved. Settings
    that do not affect the weights, such as workers and intervals, are left
    out.

    Returns:
        dict: Plain values by key, in sections; model and pipeline only if the
            runner has a config of them.
    """
    settings: Settings = dict(
        loop={'train_cfg.type': type(runner.train_loop).__name__},
        data=_describe_data(runner),
        optimizer={},
        defaults={},
        optim_wrapper={},
        param_scheduler={
            f'{key}.{i}.{name}': plain(value)
            for key, schedulers in schedulers_by_key(runner).items()
            for i, scheduler in enumerate(schedulers)
            for name, value in dict(
                vars(scheduler), type=type(scheduler)
            ).items()
            if callable(value)  # not in the checkpoint's own state
        },
        ema={},
    )
    for key, built in wrappers_by_key(runner).items():
        optimizer = f'{key}.optimizer'
        kind = type(built.optimizer).__name__
        settings['optimizer'][f'{optimizer}.type'] = kind
        settings['defaults'] |= {
            f'{optimizer}.{name}': plain(value)
            for name, value in built.optimizer.defaults.items()
            if name not in NOT_COMPARED
        }
        # DeepSpeed's wrappers have neither counts nor clipping.
        counts = getattr(built, '_accumulative_counts', None)
        clip_grad = getattr(built, 'clip_grad_kwargs', None) or {}
        settings['optim_wrapper'] |= {
            f'{key}.type': type(built).__name__,
            f'{key}.accumulative_counts': counts,
            f'{key}.dtype': str(getattr(built, 'cast_dtype', None)),
            **flatten(clip_grad, f'{key}.clip_grad'),
        }
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            begin = dict(
                begin_iter=hook.begin_iter, begin_epoch=hook.begin_epoch
            )
            settings['ema'] |= flatten(hook.ema_cfg | begin, 'EMAHook')
    model, loader, wrapper = (
        runner.cfg.get(key)
        for key in ('model', 'train_dataloader', 'optim_wrapper')
    )
    if isinstance(wrapper, Mapping):
        settings['paramwise_cfg'] = flatten(
            wrapper.get('paramwise_cfg') or {}, 'optim_wrapper.paramwise_cfg'
        )
    if isinstance(model, Mapping):
        settings['model'] = flatten(model, 'model')
        preprocessor = runner.cfg.get('data_preprocessor')
        if preprocessor is not None and 'data_preprocessor' not in model:
            settings['data_preprocessor'] = flatten(
                preprocessor, 'data_preprocessor'
            )
    if isinstance(loader, Mapping):
        settings['pipeline'] = {
            key: value
            for key, value in flatten(loader, 'train_dataloader').items()
            if '.pipeline.' in key
        }
    return settings


def _describe_data(runner: Runner) -> dict[str, Any]:
    loader = runner.train_dataloader
    sampler = find_sampler(runner)
    found = {
        'train_dataloader.sampler.type': type(sampler).__name__,
        'train_dataloader.sampler.shuffle': getattr(sampler, 'shuffle', None),
    }
    if hasattr(loader.dataset, '__len__'):
        found['train_dataloader.dataset (images)'] = len(loader.dataset)
    batch_size = getattr(loader.batch_sampler, 'batch_size', None)
    if batch_size is not None:
        found[BATCH] = batch_size * get_world_size()
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        found[LENGTH] = len(loader)
    config = runner.cfg.get('train_dataloader')
    if isinstance(config, Mapping) and 'seed' in (config.get('sampler') or ()):
        found[SAMPLER_SEED] = config['sampler']['seed']  # or the run's seed
    return found


def find_sampler(runner: Runner) -> Any:
    """Return the sampler that orders the training images."""
    loader = runner.train_dataloader
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def wrappers_by_key(runner: Runner) -> dict[str, OptimWrapper]:
    """Return the optimizer wrappers by their place in a config."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapperDict):
        wrapper = wrapper.optim_wrappers
    return _by_key(wrapper, 'optim_wrapper')


def schedulers_by_key(runner: Runner) -> dict[str, list[_ParamScheduler]]:
    """Return the lists of parameter schedulers by their place in a config."""
    return _by_key(runner.param_schedulers or [], 'param_scheduler')


def _by_key(built: Any, key: str) -> dict[str, Any]:
    if not isinstance(built, dict):
        return {key: built}
    return {f'{key}.{name}': part for name, part in built.items()}


def flatten(value: Any, key: str) -> dict[str, Any]:
    """Collect the leaves of nested dicts and lists of dicts by dotted key."""
    if isinstance(value, Mapping):
        children = [
            (f'{key}.{name}', child)
            for name, child in value.items()
            if name not in NOT_TRAINING
        ]
    elif isinstance(value, list | tuple) and any(
        isinstance(child, Mapping) for child in value
    ):
        children = [(f'{key}.{i}', child) for i, child in enumerate(value)]
    else:
        return {key: plain(value)}
    found: dict[str, Any] = {}
    for name, child in children:
        found |= flatten(child, name)
    return found
