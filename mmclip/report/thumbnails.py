"""The pictures of a page, within its bounds.

A page is made to be shared, and the files are named by the tables of a run,
which may be a stranger's. So only images in a folder that the user named
become pictures.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from mmclip.pages.thumbnail import Thumbnail, thumbnail

MOST = 240
MOST_BYTES = 2_800_000  # in the page, so that it stays under 5 MB


@dataclass(frozen=True)
class Picture:
    """What a page shows of a file.

    Args:
        number (int): Which of the page's files it is.
        thumbnail (Thumbnail | None): The picture; None if the file cannot be
            read.
        outside (bool): Whether there is none because the file is not in the
            folder whose images may be shown.
    """

    number: int
    thumbnail: Thumbnail | None
    outside: bool = False


class Thumbnails:
    """The pictures of a page: each is made once, as long as there is room.

    Args:
        root (str | Path | None): The folder whose images may be shown, links
            followed. None: no pictures.
    """

    def __init__(self, root: str | Path | None) -> None:
        self.root = None if root is None else os.path.realpath(root)
        self._made: dict[str, Picture] = {}
        self._bytes = 0

    def of(self, folder: str, path: str) -> Picture | None:
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
            number = len(self._made)
            if number >= MOST or self._bytes >= MOST_BYTES:
                return None
            if _is_in(self.root, path):
                made = thumbnail(os.path.realpath(path))
                self._bytes += len(made.data) if made else 0
                self._made[path] = Picture(number, made)
            else:
                self._made[path] = Picture(number, None, outside=True)
        return self._made[path]

    @property
    def pictures(self) -> list[Picture]:
        """All that were made."""
        return [p for p in self._made.values() if p.thumbnail]

    @property
    def outside(self) -> int:
        """The number of files that are not in the root."""
        return sum(p.outside for p in self._made.values())

    @property
    def unreadable(self) -> int:
        """The number of files that are missing or damaged."""
        return len(self._made) - len(self.pictures) - self.outside


def _is_in(root: str, path: str) -> bool:
    """Tell whether a path is a folder or below it, links followed."""
    try:
        return root == os.path.commonpath([root, os.path.realpath(path)])
    # No path: it has a NUL, or is on another drive of Windows.
    except (OSError, ValueError):
        return False
