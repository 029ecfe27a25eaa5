"""Small pictures of images, within the bounds of a page.

A page is made to be shared, and the files are named by the tables of a run,
which may be a stranger's. So only images in a folder that the user named
become pictures.
"""

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mmclip.datasets import grey_levels
from mmclip.datasets.formats import open_image

SIDE = 144  # pixels; pages show them at 112 or less
SMALL = 72  # smaller images are enlarged with sharp pixels
QUALITY = 72
MOST = 240
MOST_BYTES = 2_800_000  # in the page, so that it stays under 5 MB
MOST_OF_A_FILE = 2**28  # bytes


@dataclass(frozen=True)
class Thumbnail:
    """A picture in the page.

    Args:
        path (str): The file, for people.
        number (int | None): Which of the page's pictures it is; None if there
            is none.
        width (int): In pixels.
        height (int): In pixels.
        data (str): A data URI.
        outside (bool): Whether there is no picture because the file is not in
            the folder whose images may be shown.
    """

    path: str
    number: int | None = None
    width: int = SIDE
    height: int = SIDE
    data: str = ''
    outside: bool = False


class Thumbnails:
    """The pictures of a page: each is made once, as long as there is room.

    Args:
        root (str | Path | None): The folder whose images may be shown, links
            followed. None: no pictures.
    """

    def __init__(self, root: str | Path | None) -> None:
        self.root = None if root is None else os.path.realpath(root)
        self._made: dict[str, Thumbnail] = {}
        self._bytes = 0

    def of(self, folder: str, path: str) -> Thumbnail | None:
        """Return the picture of a file, or None if there is no room left.

        Args:
            folder (str): Where a run had its images. If this is not in the
                root, they are looked for in the root itself.
            path (str): The file, from there.
        """
        if self.root is None:
            return None
        inside = _is_in(self.root, folder)
        path = os.path.join(folder if inside else self.root, path)
        if path not in self._made:
            if len(self._made) >= MOST or self._bytes >= MOST_BYTES:
                return None
            self._made[path] = self._make(path)
        return self._made[path]

    @property
    def pictures(self) -> list[Thumbnail]:
        """All that were made."""
        return [t for t in self._made.values() if t.number is not None]

    @property
    def outside(self) -> int:
        """The number of files that are not in the root."""
        return sum(t.outside for t in self._made.values())

    @property
    def unreadable(self) -> int:
        """The number of files that are missing or damaged."""
        return len(self._made) - len(self.pictures) - self.outside

    def _make(self, path: str) -> Thumbnail:
        if not _is_in(self.root, path):
            return Thumbnail(path, outside=True)
        try:
            image = _shrink(os.path.realpath(path))
        # On a damaged file, Pillow's decoders raise nearly any exception.
        except Exception:
            return Thumbnail(path)
        file = io.BytesIO()
        image.save(file, 'JPEG', quality=QUALITY, optimize=True)
        data = base64.b64encode(file.getvalue()).decode()
        self._bytes += len(data)
        return Thumbnail(
            path,
            len(self._made),
            image.width,
            image.height,
            f'data:image/jpeg;base64,{data}',
        )


def _is_in(root: str | None, path: str) -> bool:
    """Tell whether a path is a folder or below it, links followed."""
    try:
        return root == os.path.commonpath([root or '', os.path.realpath(path)])
    # No path: it has a NUL, or is on another drive of Windows.
    except (OSError, ValueError):
        return False


def _shrink(path: str) -> Image.Image:
    """Read an image as models see it, and make it small."""
    if not os.path.isfile(path):  # a pipe would wait for a writer
        raise FileNotFoundError(path)
    if os.path.getsize(path) > MOST_OF_A_FILE:
        raise ValueError(f'{path} is too large')
    with open_image(path) as image:
        image.draft('RGB', (2 * SIDE, 2 * SIDE))
        if grey_levels.needs_scaling(image):
            image.load()
            small = Image.fromarray(grey_levels.scale(image, image)[0])
        else:
            small = image.convert(
                'RGBA' if 'transparency' in image.info else 'RGB'
            )
    small = small.convert('RGB')
    small.info.clear()  # Pillow would write a comment that the file has
    longest = max(small.size)
    if longest < SMALL:
        times = SIDE // longest
        size = (small.width * times, small.height * times)
        return small.resize(size, Image.Resampling.NEAREST)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return small
