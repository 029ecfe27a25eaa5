"""The image files that Pillow itself can decode."""

import functools
import os
from pathlib import Path
from typing import IO

from PIL import Image

# Left out: EPS, for which Pillow starts Ghostscript; WMF, which only Windows
# decodes; BUFR, GRIB, HDF5, IPTC and MPEG, which Pillow only identifies.
# HEIF and JXL come from plugins.
FORMATS = frozenset(
    """
    AVIF BLP BMP CUR DCX DDS DIB FITS FLI FTEX GBR GIF HEIF ICNS ICO IM IMT
    JPEG JPEG2000 JXL MCIDAS MSP PCD PCX PIXAR PNG PPM PSD QOI SGI SPIDER SUN
    TGA TIFF WEBP XBM XPM XVTHUMB
    """.split()  # noqa: SIM905
)
# Files with other suffixes are identified by their content.
SUFFIXES = frozenset(
    """
    .apng .avif .bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm
    .ppm .tif .tiff .webp
    """.split()  # noqa: SIM905
)
# Formats that the first bytes identify. TIFF is not one: raw files of cameras
# begin like it.
CERTAIN = frozenset(
    """
    AVIF BMP FITS GIF HEIF ICNS JPEG JPEG2000 JXL PNG PPM PSD QOI WEBP
    """.split()  # noqa: SIM905
)


def open_image(file: str | Path | IO[bytes]) -> Image.Image:
    """Open an image lazily, without ever starting another program.

    Raises:
        UnidentifiedImageError: If its format is not in ``FORMATS``.
    """
    return Image.open(file, formats=_registered(FORMATS))


def is_image(path: str | Path) -> bool:
    """Tell whether a local file is an image, by suffix or else by content.

    A file with a suffix in ``SUFFIXES`` is not opened, so it may be damaged.
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
    # On other files, decoders raise nearly any exception.
    except Exception:
        return False


@functools.cache
def _registered(names: frozenset[str]) -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.ID if name in names)
