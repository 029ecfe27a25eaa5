"""Conversion of grey images with more than 8 bits to 8 bits."""

from typing import Any

import numpy as np
from PIL import Image

# https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 8, 19
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262
MAX_SAMPLE_VALUE, SAMPLE_FORMAT = 281, 339
SMIN_SAMPLE_VALUE, SMAX_SAMPLE_VALUE = 340, 341
WHITE_IS_ZERO, UNSIGNED = 0, 1
# Values in a 16-bit file stay below this if the data has 14 bits or fewer.
DARK = 2**14
# The maximum that a file declares if it uses fewer bits: 1023, 4095, ...
FEWER_BITS = frozenset(2**bits - 1 for bits in range(9, 16))


def needs_scaling(image: Image.Image) -> bool:
    """Tell whether Pillow's ``convert`` would mistake black and white."""
    deep = image.mode.startswith('I') or image.mode == 'F'
    return deep or (image.mode == 'L' and _sample_format(image) != UNSIGNED)


def scale(image: Image.Image, shown: Image.Image) -> tuple[np.ndarray, bool]:
    """Scale grey levels from the file's black and white to 0..255.

    Args:
        image (Image): The image as opened, with the file's metadata.
        shown (Image): The same image, possibly rotated.

    Returns:
        tuple[np.ndarray, bool]: ``(H, W)`` uint8, and whether the values of a
        16-bit file are so small that fewer bits may be meant.

    Raises:
        ValueError: If the file does not state which value is white.
    """
    values = np.asarray(shown)
    if image.mode == 'L':
        values = values.view(np.int8)
    black, white = value_range(image)
    dark = False
    for key in (MAX_SAMPLE_VALUE, SMAX_SAMPLE_VALUE):
        declared = _tag(image, key)
        if white == 65535 and declared in FEWER_BITS:
            fits = values.max(initial=0) <= declared
            white = int(declared) if fits else white
    if black == 0 and isinstance(white, int):
        levels = values >> (white.bit_length() - 8)
        dark = white == 65535 and 0 < values.max(initial=0) < DARK
    else:
        if not np.isfinite(values).all():
            raise ValueError('it has pixels that are NaN or infinite')
        share = (values.astype(np.float64) - black) / (white - black)
        levels = (255 * share.clip(0, 1)).round()
    levels = levels.astype(np.uint8)
    # Without the tag, white is zero, as Pillow assumes too.
    is_tiff = image.format == 'TIFF'
    if is_tiff and _tag(image, PHOTOMETRIC, WHITE_IS_ZERO) == WHITE_IS_ZERO:
        levels = 255 - levels
    return levels, dark


def is_dark(colours: Image.Image) -> bool:
    """Tell whether 16-bit values are so small that fewer bits are meant."""
    highest = np.asarray(colours).max(initial=0)
    return 0 < highest < DARK >> 8


def value_range(image: Image.Image) -> tuple[float, float]:
    """Return the lowest and highest value; PHOTOMETRIC says which is white.

    Raises:
        ValueError: If the file does not state them.
    """
    if image.format != 'TIFF':
        # Pillow loads 16-bit PNG and PPM files as 32-bit images.
        sixteen_in_32 = image.mode == 'I' and image.format in ('PNG', 'PPM')
        if image.mode.startswith('I;16') or sixteen_in_32:
            return 0, 65535
    elif image.mode.startswith('I;16'):
        return 0, 2 ** _tag(image, BITS_PER_SAMPLE, 1) - 1
    low, high = (
        _tag(image, key) for key in (SMIN_SAMPLE_VALUE, SMAX_SAMPLE_VALUE)
    )
    if low is None or high is None or not low < high:
        raise ValueError(
            f'its pixels are {"signed " if _sample_format(image) == 2 else ""}'
            f'{image.format} mode {image.mode!r}, which has no largest value '
            'to scale by (unsigned 8 and 16 bits have one, and so has TIFF '
            'with SMinSampleValue and SMaxSampleValue)'
        )
    return float(low), float(high)


def _sample_format(image: Image.Image) -> int:
    return _tag(image, SAMPLE_FORMAT, UNSIGNED)


def _tag(image: Image.Image, key: int, default: Any = None) -> Any:
    """Return a tag of a TIFF file, for its first sample."""
    value = getattr(image, 'tag_v2', {}).get(key, default)
    return value[0] if isinstance(value, tuple) and value else value
