"""Which images a user means."""

import sys
from collections.abc import Iterable
from pathlib import Path

from mmclip.datasets.formats import is_image
from mmclip.datasets.image_tree import read_tree
from mmclip.errors import DataError


def find_images(source: str | Path) -> list[str]:
    """List the images of a file, a folder, a list or standard input.

    Args:
        source (str | Path): An image; a folder, whose subfolders count too;
            a ``.txt`` file with a path per line; or ``'-'`` for such a list
            on standard input.

    Raises:
        DataError: If there is no image.
        FileNotFoundError: If it, or an image of a list, does not exist.
    """
    if str(source) == '-':
        return _existing(sys.stdin, 'standard input')
    path = Path(source)
    if path.is_dir():
        tree = read_tree(str(path))
        found = [str(path / name) for name, _ in tree.images]
        if not found:
            raise DataError(f'{path} has no image that can be read.')
        return found
    if not path.is_file():
        raise FileNotFoundError(f'There is no file or folder {path}.')
    if path.suffix == '.txt':
        with open(path, encoding='utf-8-sig') as file:
            return _existing(file, str(path))
    if not is_image(str(path)):
        raise DataError(
            f'{path} is neither an image nor a list of images (.txt).'
        )
    return [str(path)]


def _existing(lines: Iterable[str], where: str) -> list[str]:
    paths = [line.strip() for line in lines if line.strip()]
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise FileNotFoundError(
            f'{where} names {len(missing)} files that do not exist, such as '
            f'{missing[0]}.'
        )
    if not paths:
        raise DataError(f'{where} names no image.')
    return paths
