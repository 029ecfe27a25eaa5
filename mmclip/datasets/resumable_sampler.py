"""Samplers that can resume at any sample, with the same augmentation.

The sampler can start at any sample of an epoch, and gives every sample the
seed of its augmentation, which a transform then uses. So neither an
interruption nor the number of data workers, nor whether they persist, changes
what the model sees.
"""

import random
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.logging import print_log

from mmclip.datasets.image_tree import number_of
from mmclip.registry import DATA_SAMPLERS, TRANSFORMS


class SampleIndex(int):
    """The index of a sample, with the seed of its augmentation.

    It keeps the seed when ``ConcatDataset`` subtracts the lengths of other
    data sets and when ``RepeatDataset`` takes a remainder.
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> 'SampleIndex':
        """Create an int with an attribute."""
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __sub__(self, other: int) -> 'SampleIndex':
        """Return the index in one of several data sets."""
        return SampleIndex(int(self) - other, self.seed)

    def __mod__(self, other: int) -> 'SampleIndex':
        """Return the index in a repeated data set."""
        return SampleIndex(int(self) % other, self.seed)

    def __reduce__(self) -> tuple:
        """Keep the seed on the way to the workers."""
        return SampleIndex, (int(self), self.seed)


@DATA_SAMPLERS.register_module()
class ResumableSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` that can start at any position.

    It yields :class:`SampleIndex`; the seed depends on the run's seed, the
    epoch and the position in the epoch over all processes.

    Args:
        dataset (Sized): The data set to sample from.
        images_per_step (int | None): Images per optimizer step in each
            process, ``accumulative_counts`` x ``batch_size``; epochs are
            shortened to whole steps. Defaults to None: the whole data set.
        **kwargs: As in ``DefaultSampler``.

    Raises:
        ValueError: If a step takes more images than the data set has.
    """

    start = 0  # this process's first position in the epoch

    def __init__(
        self,
        dataset: Sized,
        images_per_step: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(dataset, **kwargs)
        if images_per_step:
            self._shorten(images_per_step)

    def _shorten(self, images_per_step: int) -> None:
        size, step = len(self.dataset), images_per_step * self.world_size
        self.num_samples = size // step * images_per_step
        self.total_size = size // step * step
        if not self.num_samples:
            raise ValueError(
                f'An optimizer step takes {step} images (batch_size x '
                'optim_wrapper.accumulative_counts x processes), but the data '
                f'set has {size}: lower one of the three.'
            )
        if left := size - self.total_size:
            then = (
                'are left for another epoch'
                if self.shuffle
                else 'are never used, because shuffle=True is missing'
            )
            print_log(
                f'An epoch has {number_of(size // step, "optimizer step")} of '
                f'{step} images; {left} of {size} {then}.',
                logger='current',
            )

    def __iter__(self) -> Iterator[SampleIndex]:
        """Yield the samples of this process in this epoch."""
        for i, index in enumerate(super().__iter__()):
            if i >= self.start:
                position = i * self.world_size + self.rank
                yield SampleIndex(
                    index, derive_seed(self.seed, self.epoch, position)
                )


@DATA_SAMPLERS.register_module()
class ResumableInfiniteSampler(InfiniteSampler):
    """mmengine's ``InfiniteSampler``, for loops without epochs.

    It yields :class:`SampleIndex` and takes the arguments of
    ``InfiniteSampler``.
    """

    def __iter__(self) -> Iterator[SampleIndex]:
        """Yield the samples of this process endlessly."""
        for i, index in enumerate(super().__iter__()):
            position = i * self.world_size + self.rank
            yield SampleIndex(index, derive_seed(self.seed, position))


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """A transform that seeds the augmentation of a sample.

    It must be the first of a training pipeline, with
    :class:`ResumableSampler` or :class:`ResumableInfiniteSampler`.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Seed Python, NumPy and torch's CPU generator.

        Samples of other samplers have no seed and are left alone;
        ``mmclip.ExactResumeHook`` warns about them.
        """
        index = results.get('sample_idx')
        if isinstance(index, SampleIndex):
            seed_everything(index.seed)
            results['sample_idx'] = int(index)
        return results


def derive_seed(*numbers: int) -> int:
    """Derive a well-mixed 32-bit seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch's CPU generator."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
