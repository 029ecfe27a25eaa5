"""Images that are loaded while the model works."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmclip.datasets.load_image import LoadImageError, to_rgb
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
    workers = min(8, os.cpu_count() or 1) if len(images) >= FEW else 0
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


def as_results(image: Picture) -> dict[str, Any]:
    """Return what a pipeline begins with.

    Args:
        image (str | Path | Image.Image | np.ndarray): A path; an image of
            Pillow's; or RGB pixels, ``(H, W, 3)`` uint8.

    Raises:
        ArgumentError: If it is anything else.
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
    elif isinstance(image, np.ndarray):
        pixels = image
    else:
        raise ArgumentError(
            'An image must be a path, a PIL.Image or a numpy array; got a '
            f'{type(image).__name__}.'
        )
    if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
        raise ArgumentError(
            'An array must be RGB pixels, (H, W, 3) of uint8; got '
            f'{pixels.shape} of {pixels.dtype}.'
        )
    size = pixels.shape[:2]
    return dict(img=mmcv.rgb2bgr(pixels), img_shape=size, ori_shape=size)
