"""Which images a user means."""

import csv
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from mmclip.datasets.image_tree import read_tree, warn_of_others
from mmclip.datasets.transforms.formats import is_image
from mmclip.errors import ArgumentError, DataError, some
from mmclip.own_images.tables import DELIMITERS, PATH, Table

TABLES = ('.csv', '.tsv')
LISTS = ('.txt', *TABLES)


def find_images(
    source: str | Path, root: str | Path | None = None
) -> list[str]:
    """List the images of a file, a folder, a list or standard input.

    Args:
        source (str | Path): An image; a folder, whose subfolders count too;
            a ``.txt`` file with a path per line; a ``.csv`` or ``.tsv`` file
            with a column ``path``, such as ``predictions.csv`` of a run; or
            ``'-'`` for lines on standard input.
        root (str | Path | None): The folder that the paths of a list begin
            at. Defaults to None: the list's folder or, if none is there, the
            current one.

    Raises:
        ArgumentError: If there is a root, but no list.
        DataError: If there is no image.
        FileNotFoundError: If it does not exist, or nothing of a list does.
    """
    if str(source) == '-':
        lines = map(os.fsdecode, sys.stdin.buffer)
        return _listed(lines, 'standard input', Path(), root)
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f'There is no file or folder {path}.')
    is_list = path.is_file() and path.suffix.lower() in LISTS
    if root is not None and not is_list:
        raise ArgumentError(
            f'--root is for lists of paths; {path} is not one.'
        )
    if path.is_dir():
        return _in_folder(path)
    if is_list:
        with open(
            path, encoding='utf-8-sig', errors='surrogateescape', newline=''
        ) as file:
            is_table = path.suffix.lower() in TABLES
            names = _column(file, path) if is_table else list(file)
            return _listed(names, str(path), path.parent, root)
    if not is_image(path):
        raise DataError(
            f'{path} is not an image, a folder, or a list of images '
            f'({", ".join(LISTS)}).'
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


def _listed(
    lines: Iterable[str],
    where: str,
    folder: Path,
    root: str | Path | None,
) -> list[str]:
    names = [name for line in lines if (name := line.strip('\r\n').strip())]
    if not names:
        raise DataError(f'{where} names no images.')
    if root is not None:
        folder = Path(root)
    elif not any((folder / name).exists() for name in names):
        folder = Path()
    paths = [str(folder / name) for name in names]
    if not any(Path(path).exists() for path in paths):
        places = f'in {root}' if root is not None else 'here or beside it'
        raise FileNotFoundError(
            f'None of the {len(paths):,} images that {where} names exists '
            f'{places}: {some(names, 3)}. Give the folder that they begin at '
            'with --root.'
        )
    return paths


def _column(file: IO[str], path: Path) -> list[str]:
    """Read the column of a table that has the paths."""
    first = file.readline()
    file.seek(0)
    reader = csv.reader(file, delimiter=max(DELIMITERS, key=first.count))
    try:
        columns, *rows = [cells for cells in reader if cells] or [[]]
    except csv.Error as error:
        raise DataError(f'{path} is not a table: {error}.') from error
    column = Table(path, columns, []).find(PATH)
    if column is None:
        raise DataError(
            f"{path} needs a header with a column 'path'; its first line has "
            f'{some(columns) or "nothing"}. A list without a header is .txt.'
        )
    return [cells[column] for cells in rows if len(cells) > column]
