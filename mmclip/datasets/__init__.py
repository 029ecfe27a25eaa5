"""Data sets, samplers and transforms: what mmpretrain lacks."""

from mmclip.datasets.imagenet import ImageNet
from mmclip.datasets.resumable_sampler import (
    ResumableInfiniteSampler,
    ResumableSampler,
    SeedSample,
)

__all__ = [
    'ImageNet',
    'ResumableInfiniteSampler',
    'ResumableSampler',
    'SeedSample',
]
