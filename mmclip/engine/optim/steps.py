"""Optimizer steps over several iterations, and checkpoints between them."""

from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmclip.datasets.resumable_sampler import ResumableSampler
from mmclip.engine.resume.run_settings import find_sampler
from mmclip.errors import ConfigError


def has_gathered(runner: Runner) -> bool:
    """Tell whether gradients have been accumulated since the last step."""
    optim_wrapper = runner.optim_wrapper
    return (
        isinstance(optim_wrapper, OptimWrapper)
        # which does not count iterations and cannot accumulate
        and not isinstance(optim_wrapper, OptimWrapperDict)
        and not optim_wrapper.should_update()
    )


def check_checkpoints(runner: Runner, hook: CheckpointHook) -> None:
    """Check that checkpoints are written after whole optimizer steps.

    They do not hold gradients accumulated since the last step. If epochs do
    not end with a step and the sampler is not ours, a warning says that a
    resumed run loses some.

    Raises:
        ConfigError: If an interval in iterations is not a whole number of
            steps, or our sampler does not end epochs with a step.
    """
    # mmengine does not count iterations for several optimizers or DeepSpeed.
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    if hook.by_epoch:
        _check_epochs(runner, counts)
        return
    for name in 'interval', 'save_begin':
        value = getattr(hook, name)
        if value > 0 and value % counts:
            raise ConfigError(
                f'default_hooks.checkpoint.{name}={value} falls within an '
                f'optimizer step: set it to a multiple of {counts} '
                '(optim_wrapper.accumulative_counts).'
            )


def _check_epochs(runner: Runner, counts: int) -> None:
    loader = runner.train_dataloader
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return
    if len(loader) % counts == 0:
        return
    found = (
        f'An epoch has {len(loader)} iterations, which is not a multiple of '
        f'optim_wrapper.accumulative_counts={counts}'
    )
    if isinstance(find_sampler(runner), ResumableSampler):
        images = counts * loader.batch_sampler.batch_size
        raise ConfigError(
            f'{found}: set train_dataloader.sampler.images_per_step={images} '
            '(accumulative_counts x batch_size), so that epochs end with a '
            'step.'
        )
    runner.logger.warning(
        f'{found}: a run resumed at the end of an epoch loses the gradients '
        'of an unfinished step. '
        "train_dataloader.sampler.type='mmclip.ResumableSampler' makes epochs "
        'end with a step.'
    )
