"""What users import from mmclip.datasets, which registers it."""

from mmclip.datasets.image_folder import ImageFolder
from mmclip.datasets.image_table import ImageTable
from mmclip.datasets.imagenet import ImageNet
from mmclip.datasets.load_image import LoadImage, LoadImageError, read_image
from mmclip.datasets.resumable_sampler import (
    ResumableInfiniteSampler,
    ResumableSampler,
    SeedSample,
)
from mmclip.datasets.shifts import (
    CropBorder,
    ImageNetA,
    ImageNetR,
    ImageNetSketch,
    ImageNetV2,
    ImageNetVal,
    ObjectNet,
)
from mmclip.errors import DataError

__all__ = [
    'CropBorder',
    'DataError',
    'ImageFolder',
    'ImageNet',
    'ImageNetA',
    'ImageNetR',
    'ImageNetSketch',
    'ImageNetV2',
    'ImageNetVal',
    'ImageTable',
    'LoadImage',
    'LoadImageError',
    'ObjectNet',
    'ResumableInfiniteSampler',
    'ResumableSampler',
    'SeedSample',
    'read_image',
]
