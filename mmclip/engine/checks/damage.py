"""A search for damaged images that does not decode the others."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from PIL import Image

from mmclip.datasets import grey_levels
from mmclip.datasets.formats import open_image
from mmclip.datasets.load_image import LoadImageError, read_image

THREADS = 8  # most of them wait for the disk
TAIL = 2**16  # bytes in which to look for the end of an image
# Modes that Pillow converts to RGB.
PLAIN_MODES = frozenset(
    ('1', 'L', 'LA', 'La', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr')
)
STRIPS, TILES = (273, 279), (324, 325)  # TIFF tags: offsets, lengths


def find_unreadable(paths: Sequence[str]) -> list[LoadImageError]:
    """Find local images that :func:`mmclip.datasets.read_image` refuses.

    Only the header and the end of each file are read. Files that look damaged
    are decoded, and so are formats without an end marker. Damage in between
    shows only when an image is loaded.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        whole = threads.map(_looks_whole, paths)
        suspects = [
            path for path, ok in zip(paths, whole, strict=True) if not ok
        ]
        found = list(threads.map(_error_of, suspects))
    return [error for error in found if error is not None]


def find_missing(paths: Sequence[str]) -> list[LoadImageError]:
    """Find local files that are missing or empty."""
    errors = []
    for path in paths:
        if not Path(path).is_file():
            errors.append(LoadImageError(f'{path} does not exist.'))
        elif not os.path.getsize(path):
            errors.append(LoadImageError(f'{path} is empty.'))
    return errors


def _looks_whole(path: str) -> bool:
    try:
        with open(path, 'rb') as file, open_image(file) as image:
            if grey_levels.needs_scaling(image):
                grey_levels.value_range(image)
            elif image.mode not in PLAIN_MODES:
                return False
            return _has_end(image, file)
    # On a damaged header, Pillow raises nearly any exception; read_image
    # says what is wrong.
    except Exception:
        return False


def _error_of(path: str) -> LoadImageError | None:
    try:
        read_image(path)
    except LoadImageError as error:
        return error
    return None


def _has_end(image: Any, file: IO[bytes]) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL))
    tail = file.read()
    kind = image.format
    if kind in ('JPEG', 'MPO', 'JPEG2000'):
        return b'\xff\xd9' in tail
    if kind == 'PNG':
        return b'IEND' in tail
    if kind == 'GIF':
        return tail.rstrip(b'\0').endswith(b';')
    if kind == 'TIFF':
        return _end_of_tiff(image) <= size
    file.seek(0)
    head = file.read(8)
    if kind == 'WEBP':
        return int.from_bytes(head[4:8], 'little') + 8 <= size
    if kind == 'BMP':
        return 0 < int.from_bytes(head[2:6], 'little') <= size
    return False


def _end_of_tiff(image: Image.Image) -> int:
    """Find where the pixels of the first frame end, in bytes."""
    tags: Any = getattr(image, 'tag_v2', {})
    where, long = STRIPS if STRIPS[0] in tags else TILES
    return max(map(sum, zip(tags[where], tags[long], strict=True)))
