"""Loading of every kind of image that Pillow itself decodes."""

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

from mmclip.datasets.transforms import grey_levels
from mmclip.datasets.transforms.formats import open_image
from mmclip.datasets.transforms.plain_jpeg import decode_plain_jpeg
from mmclip.errors import check_choice
from mmclip.registry import TRANSFORMS

EXIF_ORIENTATIONS = ('ignore', 'apply')
ERROR_POLICIES = ('raise', 'skip')


class LoadImageError(RuntimeError):
    """An image is missing, empty, truncated, too large or not an image."""


# The second name, with _scope_='mmclip', tells mmpretrain's tools that this
# transform loads images.
@TRANSFORMS.register_module(name=['LoadImage', 'LoadImageFromFile'])
class LoadImage(BaseTransform):
    """A transform that loads the pixels that torchvision and open_clip see.

    Reads ``img_path`` and adds ``img``, BGR ``(H, W, 3)`` uint8,
    ``img_shape`` and ``ori_shape``, as mmcv's ``LoadImageFromFile`` does.
    Results that already have an ``img``, as in mmpretrain's inferencers, are
    left alone.

    Args:
        on_error (str): What to do with an image that cannot be loaded:
            'raise' stops the run, 'skip' (for training) logs it and lets the
            data set draw another sample. Defaults to 'raise'.
        max_errors (int): How many different files may be skipped, counted
            over all data workers of a process, before the run stops. Defaults
            to 100.
        exif_orientation (str): See :func:`read_image`. Defaults to 'ignore'.
        backend_args (dict | None): mmengine's file backend. Defaults to None:
            chosen by the path.
        reduce_to (int | None): See :func:`read_image`. Defaults to None.
    """

    def __init__(
        self,
        on_error: str = 'raise',
        max_errors: int = 100,
        exif_orientation: str = 'ignore',
        backend_args: dict[str, Any] | None = None,
        reduce_to: int | None = None,
    ):
        check_choice('on_error', on_error, ERROR_POLICIES)
        check_choice('exif_orientation', exif_orientation, EXIF_ORIENTATIONS)
        self.on_error = on_error
        self.exif_orientation = exif_orientation
        self.backend_args = backend_args
        self.reduce_to = reduce_to
        self.skipped = (
            SkippedImages(max_errors) if on_error == 'skip' else None
        )

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add the image, or return None to skip it."""
        if 'img' in results:
            return results
        path = results['img_path']
        try:
            image = read_image(
                path, self.exif_orientation, self.backend_args, self.reduce_to
            )
        except LoadImageError as error:
            if self.skipped is None:
                raise
            self.skipped.add(path, error)
            return None
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def read_image(
    path: str | Path,
    exif_orientation: str = 'ignore',
    backend_args: dict[str, Any] | None = None,
    reduce_to: int | None = None,
) -> np.ndarray:
    """Read the first frame of an image file, whatever its suffix.

    Pixels are those of Pillow's ``convert('RGB')``, as in torchvision's
    ``ImageFolder``. Grey with more than 8 bits is the exception: it is scaled
    from the file's black and white (``convert`` would turn it white). Formats
    for which Pillow starts another program, such as EPS, are not read.

    Args:
        path (str | Path): A file, or an address that mmengine can read.
        exif_orientation (str): Whether to 'ignore' or 'apply' the orientation
            that a camera recorded. CLIP, open_clip, timm and torchvision
            ignore it, in training and in testing. Defaults to 'ignore'.
        backend_args (dict | None): mmengine's file backend. Defaults to None:
            chosen by the path.
        reduce_to (int | None): Pixels that the shorter side of a JPEG needs:
            the file is decoded at the smallest of 1, 1/2, 1/4 and 1/8 of its
            size that has them. Defaults to None: at its size.

    Returns:
        np.ndarray: BGR, ``(H, W, 3)`` uint8.

    Raises:
        LoadImageError: If there is no image or it is incomplete.
    """
    check_choice('exif_orientation', exif_orientation, EXIF_ORIENTATIONS)
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError(
            'PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so truncated images '
            'would load without an error: set it to False.'
        )
    try:
        content = fileio.get(str(path), backend_args=backend_args)
    except OSError as error:
        raise LoadImageError(_message(path, error)) from error
    try:
        image, is_dark = _decode(content, exif_orientation, reduce_to)
    # On a damaged file, Pillow's decoders raise nearly any exception.
    except Exception as error:
        raise LoadImageError(_message(path, error, content)) from error
    if is_dark:
        _warn_of_dark_images(str(path))
    return image


class SkippedImages:
    """The images that a run skips, each counted and logged once.

    All data workers of a process share it, however they are started, and so
    do copies of a data set.
    """

    def __init__(self, limit: int):
        if limit < 1:
            raise ValueError(
                f'max_errors must be at least 1; got {limit}. Use '
                "on_error='raise' to allow none."
            )
        self.limit = limit
        # Workers of any start method can share a lock of this context.
        self._hashes = multiprocessing.get_context('spawn').Array('Q', limit)

    def add(self, path: str, error: LoadImageError) -> None:
        """Count and log a file, unless that has been done."""
        digest = hashlib.blake2b(str(path).encode(), digest_size=8).digest()
        key = int.from_bytes(digest, 'big') or 1  # 0 marks a free slot
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
            level=logging.ERROR,  # ranks other than 0 log nothing lower
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> 'SkippedImages':
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Include the run's log, which spawned workers do not know."""
        logger = MMLogger.get_current_instance()
        has_file = any(
            isinstance(handler, logging.FileHandler)
            for handler in logger.handlers
        )
        log = (logger.instance_name, logger.log_file if has_file else None)
        return dict(limit=self.limit, hashes=self._hashes, log=log)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, and append to the run's log from now on."""
        self.limit, self._hashes = state['limit'], state['hashes']
        name, log_file = state['log']
        if not MMLogger.check_instance_created(name):
            MMLogger.get_instance(name, log_file=log_file, file_mode='a')


def _decode(
    content: bytes, exif_orientation: str, reduce_to: int | None
) -> tuple[np.ndarray, bool]:
    if not content:
        raise ValueError('the file is empty')
    if exif_orientation == 'ignore':
        pixels = decode_plain_jpeg(content, reduce_to)
        if pixels is not None:
            return pixels, False
    with open_image(io.BytesIO(content)) as image:
        if reduce_to:
            image.draft(None, (reduce_to, reduce_to))  # as decode_plain_jpeg
        colours, is_dark = to_rgb(image, exif_orientation)
        return mmcv.rgb2bgr(np.asarray(colours)), is_dark


def to_rgb(
    image: Image.Image, exif_orientation: str = 'ignore'
) -> tuple[Image.Image, bool]:
    """Convert the first frame of an open image as :func:`read_image` does.

    Returns:
        tuple[Image.Image, bool]: The image, and whether it may be dark
        because fewer bits are meant than its file has.
    """
    has_16_bits = ';16' in str(getattr(image, 'tile', ''))
    image.load()  # raises if the file is truncated
    shown = (
        ImageOps.exif_transpose(image)
        if exif_orientation == 'apply'
        else image
    )
    if grey_levels.needs_scaling(image):
        levels, is_dark = grey_levels.scale(image, shown)
        return Image.fromarray(levels).convert('RGB'), is_dark
    if shown.mode == 'P' and 'transparency' in shown.info:
        # The same colours without Pillow's warning.
        shown = shown.convert('RGBA')
    # `convert` would copy an image that is RGB already.
    colours = shown if shown.mode == 'RGB' else shown.convert('RGB')
    return colours, has_16_bits and grey_levels.is_dark(colours)


# All images of such a set are dark, so one warning is enough.
_warned: set[str] = set()


def _warn_of_dark_images(path: str) -> None:
    """Warn once per process, and only once for all data workers."""
    worker = get_worker_info()
    if _warned or (worker is not None and worker.id > 0):
        return
    _warned.add(path)
    print_log(
        f'{path} has 16 bits but uses no more than 14, so it loads dark: at '
        'most 63 of 255. If the data has 10, 12 or 14 bits, rewrite the '
        'files scaled to 16 bits, or set MaxSampleValue (1023, 4095, 16383) '
        'in grey TIFF files. Only this file is reported.',
        logger='current',
        level=logging.WARNING,
    )


def _message(path: str | Path, error: Exception, content: bytes = b'') -> str:
    if isinstance(error, UnidentifiedImageError):
        reason = 'it is not in an image format that Pillow itself decodes'
        if content[:4] in (b'II*\0', b'MM\0*'):
            reason = 'it is a TIFF with pixels that Pillow does not support'
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror.lower()  # does not repeat the path
    else:
        reason = str(error).rstrip('.') or type(error).__name__
    return (
        f'Cannot load image {path}: {reason}; replace the file or leave it '
        'out.'
    )
