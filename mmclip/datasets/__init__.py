"""Data sets: what mmpretrain lacks, and the demo's own data."""

from mmclip.datasets.imagenet import ImageNet

__all__ = ['ImageNet']
