"""Grey of more than eight bits, as grey of eight."""

from typing import Any

import numpy as np
from PIL import Image

# https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 8, 19
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262
MAX_SAMPLE_VALUE, SAMPLE_FORMAT = 281, 339
SMIN_SAMPLE_VALUE, SMAX_SAMPLE_VALUE = 340, 341
WHITE_IS_ZERO, UNSIGNED = 0, 1
# What data of 14 bits or fewer reach in a file of 16.
DARK = 2**14
# Files say so where they use fewer bits than they have: 1023, 4095 ...
FEWER_BITS = frozenset(2**bits - 1 for bits in range(9, 16))


def needs_scaling(image: Image.Image) -> bool:
    """Whether Pillow's ``convert`` would not know black and white.

    Args:
        image (Image): As it was opened.
    """
    deep = image.mode.startswith('I') or image.mode == 'F'
    return deep or (image.mode == 'L' and _sample_format(image) != UNSIGNED)


def scale(image: Image.Image, shown: Image.Image) -> tuple[np.ndarray, bool]:
    """Scale grey levels from what is black and white in the file to 0..255.

    Args:
        image (Image): As it was opened, with what the file says of itself.
        shown (Image): The same or turned.

    Returns:
        tuple[np.ndarray, bool]: ``(H, W)`` uint8, and whether 16 bits hold
        so small values only that fewer may be meant.

    Raises:
        ValueError: If nothing says which value is white.
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
    # A file without the tag is taken so by Pillow too.
    is_tiff = image.format == 'TIFF'
    if is_tiff and _tag(image, PHOTOMETRIC, WHITE_IS_ZERO) == WHITE_IS_ZERO:
        levels = 255 - levels
    return levels, dark


def is_dark(colours: Image.Image) -> bool:
    """Whether the high bytes of 16 bits are so small that fewer are meant."""
    highest = np.asarray(colours).max(initial=0)
    return 0 < highest < DARK >> 8


def value_range(image: Image.Image) -> tuple[float, float]:
    """The lowest and the highest value; which is white, PHOTOMETRIC says.

    Args:
        image (Image): As it was opened; it need not be loaded.

    Raises:
        ValueError: If nothing says what they are.
    """
    if image.format != 'TIFF':
        # Of PNG and PPM, Pillow keeps 16 bits in an image of 32.
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
            f'its pixels are of {image.format} mode {image.mode!r}'
            f'{" with a sign" if _sample_format(image) == 2 else ""}, which '
            'has no largest value to scale by (8 and 16 bits without a sign '
            'have, and TIFF with SMinSampleValue and SMaxSampleValue)'
        )
    return float(low), float(high)


def _sample_format(image: Image.Image) -> int:
    return _tag(image, SAMPLE_FORMAT, UNSIGNED)


def _tag(image: Image.Image, key: int, default: Any = None) -> Any:
    """A tag of a TIFF file, of its first sample."""
    value = getattr(image, 'tag_v2', {}).get(key, default)
    return value[0] if isinstance(value, tuple) and value else value
