"""Decoding of plain JPEGs by OpenCV, with Pillow's pixels and fewer copies.

OpenCV writes BGR, the order of OpenMMLab's arrays, where Pillow's RGB has to
be copied twice.
"""

import functools
import io
import struct

import cv2
import numpy as np
from PIL import Image

# Baseline, extended and progressive frames; the others are rare.
FRAMES = (0xC0, 0xC1, 0xC2)
# Other segments before the pixels: tables, restart interval, application data,
# comment. https://www.w3.org/Graphics/JPEG/itu-t81.pdf, table B.1.
SEGMENTS = (0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE)
# By the part of its width and height at which an image is decoded.
FLAGS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


def decode_plain_jpeg(
    content: bytes, reduce_to: int | None = None
) -> np.ndarray | None:
    """Decode a JPEG that OpenCV reads as Pillow does; ignore its EXIF data.

    Args:
        content (bytes): Of a file.
        reduce_to (int | None): As in :func:`mmclip.datasets.read_image`.

    Returns:
        np.ndarray | None: BGR, ``(H, W, 3)`` uint8. None for everything that
        is left to Pillow: other formats, CMYK, rare kinds of JPEG, damaged
        files, and images so large that Pillow warns of them.
    """
    size = _size(content)
    if size is None or not _agrees_with_pillow():
        return None
    if size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or np.inf):
        return None
    least = reduce_to or max(size)
    part = next(
        part for part in FLAGS if part == 1 or min(size) // part >= least
    )
    flags = FLAGS[part] | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)


def _size(content: bytes) -> tuple[int, int] | None:
    """Read the height and width of a JPEG with 1 or 3 channels of 8 bits.

    Reads segment by segment, as libjpeg does, so no file has another size for
    it; None if there is anything else in between.
    """
    if not content.startswith(b'\xff\xd8'):
        return None
    at = 2
    while at + 10 <= len(content) and content[at] == 0xFF:
        kind = content[at + 1]
        length = int.from_bytes(content[at + 2 : at + 4], 'big')
        if kind in FRAMES:
            bits, height, width, channels = struct.unpack_from(
                '>BHHB', content, at + 4
            )
            is_plain = bits == 8 and channels in (1, 3)
            return (height, width) if is_plain else None
        if kind not in SEGMENTS:
            return None
        at += 2 + length
    return None


@functools.cache
def _agrees_with_pillow() -> bool:
    """Tell whether OpenCV and Pillow have decoders that round alike.

    Those of PyPI's packages do; another libjpeg may not.
    """
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    for subsampling in range(3):  # 4:4:4, 4:2:2 and 4:2:0
        file = io.BytesIO()
        Image.fromarray(noise).save(file, 'JPEG', subsampling=subsampling)
        array = np.frombuffer(file.getvalue(), np.uint8)
        found = cv2.imdecode(array, cv2.IMREAD_COLOR)
        with Image.open(file) as image:
            wanted = np.asarray(image)[..., ::-1]
        if found is None or not np.array_equal(found, wanted):
            return False
    return True
