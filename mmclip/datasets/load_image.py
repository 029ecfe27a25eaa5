"""Images of every kind that Pillow decodes itself, as one kind of array."""

import hashlib
import io
import logging
import multiprocessing
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from mmengine.logging import MMLogger, print_log
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch.utils.data import get_worker_info

from mmclip.datasets import grey_levels
from mmclip.datasets.formats import open_image
from mmclip.errors import check_choice
from mmclip.registry import TRANSFORMS

EXIF_ORIENTATIONS = ('ignore', 'apply')
ERROR_POLICIES = ('raise', 'skip')


class LoadImageError(RuntimeError):
    """An image is missing, empty, truncated, too large or not an image."""


# By the second name, with _scope_='mmclip', mmpretrain's tools know that it
# loads images.
@TRANSFORMS.register_module(name=['LoadImage', 'LoadImageFromFile'])
class LoadImage(BaseTransform):
    """Load an image with the pixels that torchvision and open_clip see.

    Takes ``img_path`` and adds ``img``, BGR ``(H, W, 3)`` uint8,
    ``img_shape`` and ``ori_shape``, as mmcv's ``LoadImageFromFile``. What
    holds an ``img`` already, as in mmpretrain's inferencers, passes.

    Args:
        on_error (str): What an image does that cannot be loaded: 'raise'
            stops the run, 'skip' (for training) logs it and lets the data set
            draw another sample. Defaults to 'raise'.
        max_errors (int): So many different files may be skipped, counted over
            all data workers of a process; one more raises. Defaults to 100.
        exif_orientation (str): See :func:`read_image`. Defaults to 'ignore'.
        backend_args (dict | None): The file backend of mmengine. Defaults to
            None: by the path.
    """

    def __init__(
        self,
        on_error: str = 'raise',
        max_errors: int = 100,
        exif_orientation: str = 'ignore',
        backend_args: dict[str, Any] | None = None,
    ):
        check_choice('on_error', on_error, ERROR_POLICIES)
        check_choice('exif_orientation', exif_orientation, EXIF_ORIENTATIONS)
        self.on_error = on_error
        self.exif_orientation = exif_orientation
        self.backend_args = backend_args
        self.skipped = (
            SkippedImages(max_errors) if on_error == 'skip' else None
        )

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add the image; None if it is skipped.

        Raises:
            LoadImageError: If the image cannot be loaded and may not be
                skipped.
        """
        if 'img' in results:
            return results
        path = results['img_path']
        try:
            image = read_image(path, self.exif_orientation, self.backend_args)
        except LoadImageError as error:
            if self.skipped is None:
                raise
            self.skipped.add(path, error)
            return None
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        """Its settings, for logs."""
        return (
            f'{type(self).__name__}(on_error={self.on_error!r}, '
            f'exif_orientation={self.exif_orientation!r})'
        )


def read_image(
    path: str | Path,
    exif_orientation: str = 'ignore',
    backend_args: dict[str, Any] | None = None,
) -> np.ndarray:
    """Read the first frame of an image file, whatever its suffix says.

    Pixels are those of Pillow's ``convert('RGB')``, as in torchvision's
    ``ImageFolder``, but for grey of more than 8 bits, which is scaled from
    what is black and white in the file (``convert`` would make it white).
    No format is read for which Pillow starts a program, as for EPS.

    Args:
        path (str | Path): A file, or an address that mmengine can read.
        exif_orientation (str): 'ignore' or 'apply' what a camera noted about
            how it was held. CLIP, open_clip, timm and torchvision ignore it,
            in training and in testing. Defaults to 'ignore'.
        backend_args (dict | None): The file backend of mmengine. Defaults to
            None: by the path.

    Returns:
        np.ndarray: BGR, ``(H, W, 3)`` uint8.

    Raises:
        LoadImageError: If there is no image, or not the whole of it.
    """
    check_choice('exif_orientation', exif_orientation, EXIF_ORIENTATIONS)
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError(
            'Some code has set PIL.ImageFile.LOAD_TRUNCATED_IMAGES, so that '
            'truncated images would load without a word: set it to False.'
        )
    try:
        content = fileio.get(str(path), backend_args=backend_args)
    except OSError as error:
        raise LoadImageError(_message(path, error)) from error
    try:
        image, is_dark = _decode(content, exif_orientation)
    # Of a damaged file, Pillow's decoders raise nearly any exception.
    except Exception as error:
        raise LoadImageError(_message(path, error, content)) from error
    if is_dark:
        _warn_of_dark_images(str(path))
    return mmcv.rgb2bgr(np.asarray(image))


class SkippedImages:
    """The images that a run skips, each counted and logged once.

    Shared by the data workers of a process, however they are started, and by
    copies of a data set.

    Args:
        limit (int): How many may be skipped.
    """

    def __init__(self, limit: int):
        if limit < 1:
            raise ValueError(
                f'max_errors must be at least 1, got {limit}: to allow none, '
                "set on_error='raise'."
            )
        self.limit = limit
        # A lock of this context can be shared with workers of any other.
        self._hashes = multiprocessing.get_context('spawn').Array('Q', limit)

    def add(self, path: str, error: LoadImageError) -> None:
        """Count a file and log it, unless it has been already.

        Raises:
            LoadImageError: If there are too many.
        """
        digest = hashlib.blake2b(str(path).encode(), digest_size=8).digest()
        key = int.from_bytes(digest, 'big') or 1  # 0 is an empty place
        with self._hashes.get_lock():
            known = self._hashes[:]
            if key in known:
                return
            if 0 not in known:
                raise LoadImageError(
                    f'More than {self.limit} images (max_errors of '
                    'mmclip.LoadImage) cannot be loaded; the log names the '
                    f'others. {error}'
                ) from error
            count = known.index(0) + 1
            self._hashes[count - 1] = key
        print_log(
            f'Skipped image {count} (at most {self.limit}): {error}',
            logger='current',
            level=logging.ERROR,  # other ranks than 0 print nothing below
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> 'SkippedImages':
        return self

    def __getstate__(self) -> dict[str, Any]:
        """For workers that are spawned, who do not know the run's log."""
        logger = MMLogger.get_current_instance()
        has_file = any(
            isinstance(handler, logging.FileHandler)
            for handler in logger.handlers
        )
        log = (logger.instance_name, logger.log_file if has_file else None)
        return dict(limit=self.limit, hashes=self._hashes, log=log)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Append to the run's log from now on."""
        self.limit, self._hashes = state['limit'], state['hashes']
        name, log_file = state['log']
        if not MMLogger.check_instance_created(name):
            MMLogger.get_instance(name, log_file=log_file, file_mode='a')


def _decode(content: bytes, exif_orientation: str) -> tuple[Image.Image, bool]:
    """The first frame, in mode RGB, and whether fewer bits may be meant."""
    if not content:
        raise ValueError('the file is empty')
    with open_image(io.BytesIO(content)) as image:
        has_16_bits = ';16' in str(image.tile)
        image.load()  # here is where truncated files raise
        shown = (
            ImageOps.exif_transpose(image)
            if exif_orientation == 'apply'
            else image
        )
        if grey_levels.needs_scaling(image):
            levels, is_dark = grey_levels.scale(image, shown)
            return Image.fromarray(levels).convert('RGB'), is_dark
        if shown.mode == 'P' and 'transparency' in shown.info:
            # The same colours, without Pillow's advice to do so.
            shown = shown.convert('RGBA')
        colours = shown.convert('RGB')
        return colours, has_16_bits and grey_levels.is_dark(colours)


# Every image of such a set is dark: one is named for all.
_warned: set[str] = set()


def _warn_of_dark_images(path: str) -> None:
    """Say so once a process, and once for all data workers."""
    worker = get_worker_info()
    if _warned or (worker is not None and worker.id > 0):
        return
    _warned.add(path)
    print_log(
        f'{path} has 16 bits, of which it uses no more than 14, and loads '
        'dark: at most 63 of 255. If it holds data of 10, 12 or 14 bits, '
        'scale them to 16 and write the files again, or in grey TIFF files '
        'set MaxSampleValue (1023, 4095, 16383). Others are not named.',
        logger='current',
        level=logging.WARNING,
    )


def _message(path: str | Path, error: Exception, content: bytes = b'') -> str:
    if isinstance(error, UnidentifiedImageError):
        reason = 'it is in no image format that Pillow decodes itself'
        if content[:4] in (b'II*\0', b'MM\0*'):
            reason = 'it is a TIFF with a kind of pixels that Pillow lacks'
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror.lower()  # without the path again
    else:
        reason = str(error).rstrip('.') or type(error).__name__
    return (
        f'Cannot load image {path}: {reason}; replace the file or remove it '
        'from the data set.'
    )
