"""A small picture of an image, inside a page."""

import base64
import io
import os
from dataclasses import dataclass

from PIL import Image

from mmclip.datasets.transforms.formats import open_image
from mmclip.datasets.transforms.load_image import to_rgb

SIDE = 144  # pixels of the longer side; pages show them at 128 or less
SMALL = 72  # smaller images are enlarged with sharp pixels
QUALITY = 72
MOST_BYTES = 2**28  # of an image file


@dataclass(frozen=True)
class Thumbnail:
    """A small picture.

    Args:
        data (str): A JPEG as a data URI.
        width (int): In pixels.
        height (int): In pixels.
    """

    data: str
    width: int
    height: int


def thumbnail(path: str) -> Thumbnail | None:
    """Make a small picture; None if the file is missing, damaged or huge."""
    try:
        small = _shrink(path)
    # On a damaged file, Pillow's decoders raise nearly any exception.
    except Exception:
        return None
    file = io.BytesIO()
    small.save(file, 'JPEG', quality=QUALITY, optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return Thumbnail(f'data:image/jpeg;base64,{data}', *small.size)


def _shrink(path: str) -> Image.Image:
    """Read an image as models see it, and make it small."""
    if not os.path.isfile(path):  # a pipe would wait for a writer
        raise FileNotFoundError(path)
    if os.path.getsize(path) > MOST_BYTES:
        raise ValueError(f'{path} is too large')
    with open_image(path) as image:
        image.draft('RGB', (2 * SIDE, 2 * SIDE))  # decodes less of a JPEG
        small, _ = to_rgb(image)
    small.info.clear()  # Pillow would write a comment that the file has
    if max(small.size) < SMALL:
        times = SIDE // max(small.size)
        size = (small.width * times, small.height * times)
        return small.resize(size, Image.Resampling.NEAREST)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return small
