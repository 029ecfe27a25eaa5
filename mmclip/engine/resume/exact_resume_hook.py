"""A hook that makes a resumed run equal to an uninterrupted one."""

from typing import Any

import torch
from mmengine.dataset import ConcatDataset, InfiniteSampler, RepeatDataset
from mmengine.dist import get_rank
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.runner import (
    BaseLoop,
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
)

from mmclip.datasets.resumable_sampler import (
    ResumableInfiniteSampler,
    ResumableSampler,
    SeedSample,
    derive_seed,
    seed_everything,
)
from mmclip.engine.resume.new_settings import apply_new_settings, find_obstacle
from mmclip.engine.resume.resume_check import (
    KEY,
    Difference,
    find_differences,
    read_sampler_seed,
)
from mmclip.engine.resume.run_settings import (
    SAMPLER_SEED,
    find_sampler,
    read_settings,
    wrappers_by_key,
)
from mmclip.errors import CheckpointError, ConfigError, some
from mmclip.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """A hook that derives all randomness from the seed and the iteration.

    mmengine restores weights, optimizer and schedules, but neither random
    generators nor the position in an epoch. This hook seeds the generators at
    each iteration and continues an interrupted epoch with its next batch. It
    is exact with ``randomness.seed``, the sampler ``mmclip.ResumableSampler``
    and ``mmclip.SeedSample`` at the start of the training pipeline; it warns
    if one is missing.

    mmengine also lets a checkpoint's learning rates, weight decays and
    schedules replace the config's. This hook records the settings of the run
    in each checkpoint, compares them, and stops a run that is resumed with
    other settings before its first step.

    Args:
        new_schedule (bool): Whether to continue with the new settings
            instead, at the rates of a run that had them from the start.
            Defaults to False.
    """

    priority = 'VERY_HIGH'

    def __init__(self, new_schedule: bool = False):
        self.new_schedule = new_schedule
        self._settings: dict[str, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Warn if something that the hook relies on is missing."""
        self._settings = read_settings(runner)
        for wrapper in wrappers_by_key(runner).values():
            _tell_if_fused(wrapper.optimizer)
        wanted = ResumableSampler
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            wanted = ResumableInfiniteSampler
        name = f'mmclip.{wanted.__name__}'
        reasons = {
            f"train_dataloader.sampler.type is not '{name}'": (
                not isinstance(find_sampler(runner), wanted)
            ),
            "dict(type='mmclip.SeedSample') is not first in the pipeline of "
            'every data set, or there are wrappers other than ConcatDataset '
            'and RepeatDataset': not _seeds_samples(
                runner.train_dataloader.dataset
            ),
            'EarlyStoppingHook would start counting again': any(
                isinstance(hook, EarlyStoppingHook) for hook in runner.hooks
            ),
            'randomness.seed is not set': (
                runner._randomness_cfg.get('seed') is None
            ),
        }
        if found := [reason for reason, is_so in reasons.items() if is_so]:
            runner.logger.warning(
                'If this run is resumed, it will not end exactly as without '
                f'the break: {"; ".join(found)}.'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Record the settings that the run trains with."""
        if self._settings:
            seed = getattr(find_sampler(runner), 'seed', None)
            checkpoint['meta'][KEY] = dict(self._settings, sampler_seed=seed)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the settings of the resumed run.

        Raises:
            CheckpointError: If settings differ and are not to be applied, or
                cannot be; the message names each with both values.
        """
        if not runner._resume or not isinstance(runner._train_loop, BaseLoop):
            return
        if not {'meta', 'state_dict', 'optimizer'} <= set(checkpoint):
            return  # only weights, which ReliableCheckpointHook refuses
        differences = find_differences(runner, checkpoint)
        changed = [d for d in differences if d.kind != 'end']
        obstacle = find_obstacle(runner, checkpoint, changed)
        if changed and (obstacle or not self.new_schedule):
            otherwise = (
                f'start from its weights with load_from. {obstacle}'
                if obstacle
                else 'continue with the new ones: --resume-with-new-schedule '
                '(default_hooks.exact_resume.new_schedule=True).'
            )
            raise CheckpointError(
                f'{runner._load_from or runner._resume} was trained with '
                f'different settings from this run: {some(changed, 8)}. Set '
                f'them as they were, or {otherwise}'
            )
        if differences:
            apply_new_settings(runner, checkpoint, differences)
            runner.logger.warning(
                f'Continuing with new settings: {some(differences, 8)}. From '
                'here on, rates are those of a run that had them from its '
                'start.'
            )
        _order_as_before(runner, checkpoint, differences)

    def before_train_epoch(self, runner: Runner) -> None:
        """Start an epoch where its checkpoint was written."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return  # mmengine itself skips past batches
        if not isinstance(find_sampler(runner), ResumableSampler):
            return
        loader = runner.train_dataloader
        done = runner.iter - runner.epoch * len(loader)
        if not 0 <= done <= len(loader):
            raise ConfigError(
                f'Iteration {runner.iter} is not in epoch {runner.epoch + 1}, '
                f'which has {len(loader)}: the checkpoint was written with '
                'another batch size, number of processes or data set. Resume '
                'with the same, or start from its weights with load_from.'
            )
        find_sampler(runner).start = done * loader.batch_sampler.batch_size

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Seed the model's own randomness, such as drop path and mixup."""
        seed = derive_seed(runner.seed, get_rank(), runner.iter)
        seed_everything(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed(seed)


def _tell_if_fused(optimizer: Any) -> None:
    """Tell loss scalers that a resumed run goes on without fused steps.

    torch decides it by the config, not by what the checkpoint says.
    """
    if not all(group.get('fused', True) for group in optimizer.param_groups):
        optimizer._step_supports_amp_scaling = False


def _seeds_samples(dataset: Any) -> bool:
    """Tell whether every sample is seeded, in wrapped data sets too."""
    if isinstance(dataset, ConcatDataset):
        return all(map(_seeds_samples, dataset.datasets))
    if isinstance(dataset, RepeatDataset):
        return _seeds_samples(dataset.dataset)
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return any(isinstance(t, SeedSample) for t in transforms)


def _order_as_before(
    runner: Runner, checkpoint: dict, differences: list[Difference]
) -> None:
    """Give the sampler the seed that it had, unless the config sets one.

    In another order, the rest of an epoch would repeat some images and leave
    others out.
    """
    sampler: Any = find_sampler(runner)
    before = getattr(sampler, 'seed', None)
    seed = read_sampler_seed(checkpoint)
    if seed is None and before == runner.seed:  # an older checkpoint
        seed = checkpoint['meta'].get('seed')
    changed = {'randomness.seed', SAMPLER_SEED} & {d.key for d in differences}
    if changed or before is None or seed in (None, before):
        return
    sampler.seed = seed
    loop = runner.train_loop
    if isinstance(loop, IterBasedTrainLoop):
        # Its iterator and those of data workers may have started.
        if isinstance(sampler, InfiniteSampler):
            sampler.indices = sampler._indices_of_rank()
        loop.dataloader_iterator = type(loop.dataloader_iterator)(
            loop.dataloader
        )
