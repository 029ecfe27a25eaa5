"""A search for damaged images that does not decode the others."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import IO, Any

from PIL import Image

from mmclip.datasets.transforms import grey_levels
from mmclip.datasets.transforms.formats import open_image
from mmclip.datasets.transforms.load_image import LoadImageError, read_image

THREADS = 8  # most of them wait for the disk
CHUNK = 32  # files at a time: handing out single ones takes as long again
TAIL = 2**16  # bytes in which to look for the end of an image
# Modes that Pillow converts to RGB.
PLAIN_MODES = frozenset(
    ('1', 'L', 'LA', 'La', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr')
)
STRIPS, TILES = (273, 279), (324, 325)  # TIFF tags: offsets, lengths


def find_unreadable(paths: Sequence[str]) -> list[LoadImageError]:
    """Find local images that :func:`mmclip.datasets.read_image` refuses.

    Damage shows as in :func:`read_sizes`.
    """
    found = read_sizes(paths)
    return [error for error in found if isinstance(error, LoadImageError)]


def find_damaged(paths: Sequence[str]) -> list[LoadImageError]:
    """Find the same, and damage inside a file too, by decoding all images."""
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(_decode, paths))
    return [error for error in found if isinstance(error, LoadImageError)]


def read_sizes(
    paths: Sequence[str],
) -> list[tuple[int, int] | LoadImageError]:
    """Read the width and height of local images, or why they do not load.

    Only the header and the end of each file are read. Files that look damaged
    are decoded, and so are formats without an end marker. Damage in between
    shows only when an image is loaded.
    """
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(THREADS) as threads:
        sizes = list(chain(*threads.map(_sizes_if_whole, chunks)))
        suspects = [i for i, size in enumerate(sizes) if size is None]
        decoded = threads.map(_decode, [paths[i] for i in suspects])
        return [
            size or next(decoded)  # in the order of the suspects
            for size in sizes
        ]


def find_missing(paths: Sequence[str]) -> list[LoadImageError]:
    """Find local files that are missing or empty."""
    errors = []
    for path in paths:
        if not Path(path).is_file():
            errors.append(LoadImageError(f'{path} does not exist.'))
        elif not os.path.getsize(path):
            errors.append(LoadImageError(f'{path} is empty.'))
    return errors


def _sizes_if_whole(paths: Sequence[str]) -> list[tuple[int, int] | None]:
    return [_size_if_whole(path) for path in paths]


def _size_if_whole(path: str) -> tuple[int, int] | None:
    try:
        with open(path, 'rb') as file, open_image(file) as image:
            if grey_levels.needs_scaling(image):
                grey_levels.value_range(image)
            elif image.mode not in PLAIN_MODES:
                return None
            return image.size if _has_end(image, file) else None
    # On a damaged header, Pillow raises nearly any exception; read_image
    # says what is wrong.
    except Exception:
        return None


def _decode(path: str) -> tuple[int, int] | LoadImageError:
    try:
        height, width = read_image(path).shape[:2]
    except LoadImageError as error:
        return error
    return width, height


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
