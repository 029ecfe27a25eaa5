"""An interrupted run ends with the weights of one that was not."""

from typing import Any

import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.dist import get_rank
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmclip.datasets.resumable_sampler import (
    ResumableInfiniteSampler,
    ResumableSampler,
    SeedSample,
    derive_seed,
    seed_everything,
)
from mmclip.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make everything random a function of the seed and the iteration.

    mmengine restores weights, optimizer and schedules, but not the state of
    random generators nor the position in an epoch. This hook seeds them at
    each iteration, and lets an epoch that was interrupted go on with its next
    batch. Exact it is with ``randomness.seed``, the sampler
    ``mmclip.ResumableSampler`` and, first in the training pipeline,
    ``mmclip.SeedSample``; it warns where they are missing.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Say if something that the hook relies on is missing."""
        exact = isinstance(
            _sampler(runner), ResumableSampler | ResumableInfiniteSampler
        )
        if not exact:
            runner.logger.warning(
                'A resumed run will not be exactly the same: that wants '
                "train_dataloader.sampler.type='mmclip.ResumableSampler'."
            )
        if not _seeds_samples(runner.train_dataloader.dataset):
            runner.logger.warning(
                'A resumed run will not be exactly the same: that wants '
                "dict(type='mmclip.SeedSample') first in the pipeline of "
                'every data set, and none wrapped in another but '
                'ConcatDataset and RepeatDataset.'
            )
        if any(isinstance(h, EarlyStoppingHook) for h in runner.hooks):
            runner.logger.warning(
                'A resumed run may not end at the same epoch: '
                'EarlyStoppingHook begins to wait anew.'
            )
        if runner._randomness_cfg.get('seed') is None:
            runner.logger.warning(
                'A resumed run will not be exactly the same: randomness.seed '
                'is not set.'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Start an epoch where its checkpoint was written."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return  # mmengine itself skips what was trained on
        if not isinstance(_sampler(runner), ResumableSampler):
            return
        loader = runner.train_dataloader
        done = runner.iter - runner.epoch * len(loader)
        if not 0 <= done <= len(loader):
            raise ValueError(
                f'Iteration {runner.iter} is none of epoch {runner.epoch + 1}'
                f', which has {len(loader)}: the checkpoint was written with '
                'another batch size, number of processes or data set. Resume '
                'with the same, or start anew with load_from.'
            )
        _sampler(runner).start = done * loader.batch_sampler.batch_size

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Seed what the model itself draws: dropped paths, mixed images."""
        seed = derive_seed(runner.seed, get_rank(), runner.iter)
        seed_everything(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed(seed)


def _seeds_samples(dataset: Any) -> bool:
    """Whether each sample, and each in a wrapped data set, draws its own."""
    if isinstance(dataset, ConcatDataset):
        return all(map(_seeds_samples, dataset.datasets))
    if isinstance(dataset, RepeatDataset):
        return _seeds_samples(dataset.dataset)
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return any(isinstance(t, SeedSample) for t in transforms)


def _sampler(runner: Runner) -> Any:
    return runner.train_dataloader.batch_sampler.sampler
