"""Images that are loaded while the model works."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from PIL import Image
from torch import Tensor

from mmclip.datasets.load_image import LoadImageError, to_rgb
from mmclip.errors import ArgumentError

Picture = str | Path | Image.Image | np.ndarray
BATCH = 32
AHEAD = 2  # batches that are loaded before they are needed


def batches(
    images: Sequence[Picture], prepare: Callable[[dict[str, Any]], Any]
) -> Iterator[list[Tensor | str]]:
    """Yield the images in batches, and what is wrong with those without one.

    They are loaded by threads, which Pillow's decoders do not block: unlike
    processes these need no ``__main__`` guard and no shared memory.

    Args:
        images (Sequence): See :func:`as_results`.
        prepare (Callable): A test pipeline.
    """

    def load(image: Picture) -> Tensor | str:
        try:
            return prepare(as_results(image))['inputs']
        except LoadImageError as error:
            return str(error)

    waiting: deque[list[Future]] = deque()
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        for start in range(0, len(images), BATCH):
            chunk = images[start : start + BATCH]
            waiting.append([pool.submit(load, image) for image in chunk])
            if len(waiting) > AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


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
