"""What users import from mmclip.datasets, which registers it."""

from mmclip.datasets.image_folder import ImageFolder
from mmclip.datasets.image_table import ImageTable
from mmclip.datasets.imagenet import ImageNet
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
from mmclip.datasets.transforms.augment import RandAugment, RandomErasing
from mmclip.datasets.transforms.load_image import (
    LoadImage,
    LoadImageError,
    read_image,
)
from mmclip.datasets.transforms.resize import (
    RandomResizedCrop,
    Resize,
    ResizeEdge,
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
    'RandAugment',
    'RandomErasing',
    'RandomResizedCrop',
    'Resize',
    'ResizeEdge',
    'ResumableInfiniteSampler',
    'ResumableSampler',
    'SeedSample',
    'read_image',
]
