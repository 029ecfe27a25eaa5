"""Changes to a config for the options of training."""

import torch
from mmengine.config import Config, ConfigDict

from mmclip.engine.resume.find_checkpoint import has_checkpoints
from mmclip.errors import ConfigError

BFLOAT16 = 'mmclip.BFloat16OptimWrapper'


def resume(cfg: Config, checkpoint: str) -> None:
    """Make a run continue from a checkpoint.

    Args:
        cfg (Config): The config, changed in place.
        checkpoint (str): A file; or ``'auto'`` for the latest in the work
            directory, or ``load_from`` if there is none.
    """
    is_auto = checkpoint == 'auto'
    if is_auto and cfg.get('load_from') and not has_checkpoints(cfg):
        print(f'No checkpoint yet: training starts from {cfg.load_from}.')
    else:
        cfg.resume = True
        cfg.load_from = None if is_auto else checkpoint


def scale_learning_rate(cfg: Config) -> None:
    """Let the runner scale the learning rate by the images per iteration.

    Raises:
        ConfigError: If the config does not state the number that the learning
            rate was tuned for.
    """
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise ConfigError(
            '--auto-scale-lr needs the number of images per iteration that '
            'the learning rate was tuned for: set '
            'auto_scale_lr=dict(base_batch_size=...) in the config.'
        )
    cfg.auto_scale_lr.enable = True


def use_new_schedule(cfg: Config) -> None:
    """Let a resumed run use the config's new schedule."""
    kind = 'mmclip.ExactResumeHook'
    custom_hooks = cfg.get('custom_hooks') or []
    hooks = [*cfg.get('default_hooks', {}).values(), *custom_hooks]
    found = [hook for hook in hooks if hook and hook.get('type') == kind]
    for hook in found:
        hook.new_schedule = True
    if not found:
        cfg.custom_hooks = [*custom_hooks, dict(type=kind, new_schedule=True)]


def use_mixed_precision(optim_wrapper: ConfigDict) -> None:
    """Run the forward pass in float16, or in bfloat16 without a GPU.

    Raises:
        ConfigError: If the optimizer wrapper is of another type.
    """
    kind = optim_wrapper.get('type', 'OptimWrapper')
    if kind == BFLOAT16:
        return
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ConfigError(
            '--amp replaces an OptimWrapper or AmpOptimWrapper, but '
            f'optim_wrapper.type is {kind!r}: leave out --amp and set the '
            'precision in the config.'
        )
    bfloat16 = optim_wrapper.get('dtype') == 'bfloat16'
    if torch.cuda.is_available() and not bfloat16:
        optim_wrapper.type = 'AmpOptimWrapper'
        optim_wrapper.setdefault('loss_scale', 'dynamic')
        return
    optim_wrapper.type = BFLOAT16
    for key in ('dtype', 'loss_scale', 'use_fsdp'):  # AmpOptimWrapper's
        optim_wrapper.pop(key, None)
