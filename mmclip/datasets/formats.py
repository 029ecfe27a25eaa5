"""Which files are images: those that Pillow decodes in this process."""

import functools
import os
from pathlib import Path
from typing import IO

from PIL import Image

# Pillow starts Ghostscript for EPS, asks Windows for WMF, and knows BUFR,
# GRIB, HDF5, IPTC and MPEG by name only. HEIF and JXL are plugins'.
FORMATS = frozenset(
    """
    AVIF BLP BMP CUR DCX DDS DIB FITS FLI FTEX GBR GIF HEIF ICNS ICO IM IMT
    JPEG JPEG2000 JXL MCIDAS MSP PCD PCX PIXAR PNG PPM PSD QOI SGI SPIDER SUN
    TGA TIFF WEBP XBM XPM XVTHUMB
    """.split()  # noqa: SIM905
)
# Files with other suffixes are images if their content says so.
SUFFIXES = frozenset(
    """
    .apng .avif .bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm
    .ppm .tif .tiff .webp
    """.split()  # noqa: SIM905
)
# Those whose first bytes leave no doubt. Raw files of cameras are TIFF too.
CERTAIN = frozenset(
    """
    AVIF BMP FITS GIF HEIF ICNS JPEG JPEG2000 JXL PNG PPM PSD QOI WEBP
    """.split()  # noqa: SIM905
)


def open_image(file: str | Path | IO[bytes]) -> Image.Image:
    """Open an image lazily, without ever starting a program.

    Raises:
        UnidentifiedImageError: If it is in none of ``FORMATS``.
    """
    return Image.open(file, formats=_registered(FORMATS))


def is_image(path: str | Path) -> bool:
    """Whether a local file is an image, by its suffix, else by its content.

    A file with a suffix of ``SUFFIXES`` is not opened, and may be damaged.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return True
    candidates = CERTAIN | ({'TIFF'} if not suffix else set())
    candidates |= FORMATS & {Image.registered_extensions().get(suffix)}
    try:
        with Image.open(path, formats=_registered(candidates)):
            return True
    except Image.DecompressionBombError:
        return True
    # Of what is not an image, decoders raise nearly any exception.
    except Exception:
        return False


@functools.cache
def _registered(names: frozenset[str]) -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.ID if name in names)
