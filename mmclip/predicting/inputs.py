"""Which images a user means."""

import csv
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from mmclip.datasets.formats import is_image
from mmclip.datasets.image_tree import read_tree, warn_of_others
from mmclip.errors import DataError, some

LISTS = ('.txt', '.csv')


def find_images(source: str | Path) -> list[str]:
    """List the images of a file, a folder, a list or standard input.

    Args:
        source (str | Path): An image; a folder, whose subfolders count too;
            a ``.txt`` file with a path per line; a ``.csv`` file with a
            column ``path``; or ``'-'`` for lines on standard input. Paths in
            a list begin at the list's folder or, if none is there, at
            the current one.

    Raises:
        DataError: If there is no image.
        FileNotFoundError: If it does not exist, or nothing of a list does.
    """
    if str(source) == '-':
        lines = map(os.fsdecode, sys.stdin.buffer)
        return _listed(lines, 'standard input', Path())
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f'There is no file or folder {path}.')
    if path.suffix.lower() in LISTS:
        with open(
            path, encoding='utf-8-sig', errors='surrogateescape', newline=''
        ) as file:
            is_table = path.suffix.lower() == '.csv'
            names = _column(file, path) if is_table else list(file)
            return _listed(names, str(path), path.parent)
    if not is_image(path):
        raise DataError(
            f'{path} is not an image, a folder, or a list of images '
            f'({" or ".join(LISTS)}).'
        )
    return [str(path)]


def _in_folder(path: Path) -> list[str]:
    tree = read_tree(str(path))
    if not tree.images:
        raise DataError(
            f'{path} has no images: {len(tree.others)} other files were '
            'found in it and below.'
        )
    warn_of_others(tree)
    return [str(path / name) for name, _ in tree.images]


def _listed(lines: Iterable[str], where: str, folder: Path) -> list[str]:
    names = [name for line in lines if (name := line.strip('\r\n').strip())]
    if not names:
        raise DataError(f'{where} names no images.')
    beside = any((folder / name).exists() for name in names)
    paths = [str(folder / name) if beside else name for name in names]
    if not any(Path(path).exists() for path in paths):
        raise FileNotFoundError(
            f'None of the {len(paths)} images that {where} names exists here '
            f'or beside it: {some(names, 3)}.'
        )
    return paths


def _column(file: IO[str], path: Path) -> list[str]:
    """Read the column ``path`` of a table."""
    first = file.readline()
    file.seek(0)
    separator = max(',;\t', key=first.count)
    table = csv.DictReader(file, delimiter=separator)
    columns = [str(name).strip() for name in table.fieldnames or ()]
    if 'path' not in columns:
        raise DataError(
            f"{path} needs a column 'path'; it has {some(columns)}."
        )
    table.fieldnames = columns
    try:
        return [row['path'] or '' for row in table]
    except csv.Error as error:
        raise DataError(f'{path} is not a table: {error}.') from error
