"""Images that are loaded while the model works."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmclip.datasets.transforms.load_image import LoadImageError, to_rgb
from mmclip.errors import ArgumentError

Picture = str | Path | Image.Image | np.ndarray
Prepare = Callable[[dict[str, Any]], dict[str, Any]]
BATCH = 32
FEW = 64  # with fewer images, processes cost more than they save

# Tensors of the images that can be read, stacked; their rows; and what is
# wrong with the others, by row.
Batch = tuple[Tensor, list[int], dict[int, str]]


def batches(images: Sequence[Picture], prepare: Prepare) -> Iterator[Batch]:
    """Yield the images in batches, loaded by processes if there are many.

    Args:
        images (Sequence): See :func:`as_results`.
        prepare (Callable): A test pipeline.
    """
    workers = 0
    # A new interpreter per process would run the user's script again.
    if len(images) >= FEW and multiprocessing.get_start_method() == 'fork':
        workers = min(8, os.cpu_count() or 1, len(images) // BATCH)
    yield from DataLoader(
        _Images(images, prepare),
        batch_size=BATCH,
        num_workers=workers,
        collate_fn=_collate,
    )


class _Images(Dataset):
    def __init__(self, images: Sequence[Picture], prepare: Prepare):
        self.images, self.prepare = images, prepare

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[int, Tensor | str]:
        try:
            return row, self.prepare(as_results(self.images[row]))['inputs']
        except LoadImageError as error:
            return row, str(error)


def _collate(loaded: list[tuple[int, Tensor | str]]) -> Batch:
    read = {row: image for row, image in loaded if isinstance(image, Tensor)}
    wrong = {row: image for row, image in loaded if isinstance(image, str)}
    stacked = torch.stack([*read.values()]) if read else torch.empty(0)
    return stacked, [*read], wrong


def as_pictures(images: Any) -> list[Picture]:
    """Return one image, or several in whatever holds them, as a list.

    Raises:
        ArgumentError: If something is not an image.
    """
    found = [images]
    if not is_one(images) and not isinstance(images, bytes | Mapping):
        try:
            several = iter(images)
        except TypeError:  # such as None
            pass
        else:
            found = list(several)
    for image in found:
        if not is_one(image):
            raise ArgumentError(
                'An image must be a path, a PIL.Image or a numpy array, or '
                f'several of these in a list; got {type(image).__name__}.'
            )
        if isinstance(image, np.ndarray) and (
            image.dtype != np.uint8 or image.shape[2:] != (3,)
        ):
            raise ArgumentError(
                'An array must be RGB pixels, (H, W, 3) of uint8; got '
                f'{image.shape} of {image.dtype}.'
            )
    return found


def is_one(images: Any) -> bool:
    """Tell whether it is one image, and not several."""
    return isinstance(images, str | Path | Image.Image) or (
        isinstance(images, np.ndarray) and images.ndim in (2, 3)
    )


def as_results(image: Picture) -> dict[str, Any]:
    """Return what a pipeline begins with.

    Args:
        image (str | Path | Image.Image | np.ndarray): A path; an image of
            Pillow's; or RGB pixels, ``(H, W, 3)`` uint8.

    Raises:
        LoadImageError: If Pillow cannot decode its image.
    """
    if isinstance(image, str | Path):
        return dict(img_path=str(image))
    if isinstance(image, Image.Image):
        try:
            pixels = np.asarray(to_rgb(image)[0])
        # On damaged files, Pillow's decoders raise nearly any exception.
        except Exception as error:
            raise LoadImageError(f'Cannot load {image}: {error}') from error
    else:
        pixels = image
    size = pixels.shape[:2]
    return dict(img=mmcv.rgb2bgr(pixels), img_shape=size, ori_shape=size)
