"""Data sets in the two forms in which Hugging Face keeps them on disk."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

from mmclip.datasets.transforms.formats import SUFFIXES
from mmclip.errors import ArgumentError, DataError, RequirementError, some
from mmclip.own_images.folders import folders_of_splits
from mmclip.own_images.listing import Listing, Row, split_named
from mmclip.own_images.tables import (
    LABEL,
    LABELS,
    Table,
    list_rows,
    read_cells,
    rows_of,
)

METADATA = ('metadata.csv', 'metadata.jsonl')  # of an `imagefolder`
ROBOFLOW = '_classes.csv'  # the same, with a column of 0 and 1 per class
# What `save_to_disk` writes for several splits, or for one.
SAVED = ('dataset_dict.json', 'state.json')
BEGINNINGS = {b'\xff\xd8': '.jpg', b'\x89P': '.png'}


def find_metadata(folder: Path) -> list[Table]:
    """Return the tables with labels in a folder and its splits.

    Raises:
        DataError: If only some of the splits have one.
    """
    splits = [folder / name for name in folders_of_splits(folder).values()]
    tables = {}
    for place in (folder, *splits):
        for name in (*METADATA, ROBOFLOW):
            if (place / name).is_file():
                table = read_cells(place / name)
                labelled = table.find(LABEL + LABELS) is not None
                if labelled or name == ROBOFLOW:
                    tables[place] = table
    without = [place for place in splits if place not in tables]
    if tables and folder not in tables and without:
        raise DataError(
            f'{some(without)} has no table such as '
            f'{next(iter(tables.values())).path}.'
        )
    return list(tables.values())


def read_metadata(tables: list[Table], folder: Path) -> Listing:
    """Read an ``imagefolder``: tables with a column ``file_name``.

    Splits are those of a column, or else the folders ``train`` and so on.

    Args:
        tables (list[Table]): See :func:`find_metadata`.
        folder (Path): The folder of all images.
    """
    rows = []
    for table in tables:
        start = table.path.parent.relative_to(folder).as_posix()
        rows += rows_of(table, start)
    rows = [
        row._replace(split=row.split or _split_of(row.path)) for row in rows
    ]
    without = [row.path for row in rows if not row.split]
    if 0 < len(without) < len(rows):
        raise DataError(
            f'{folder} has images in no split, such as {without[0]}, beside '
            'those of train, val or test.'
        )
    return list_rows(rows, folder, str(folder))


def is_saved(folder: Path) -> bool:
    """Tell whether ``Dataset.save_to_disk`` has written a folder."""
    return any((folder / name).is_file() for name in SAVED)


def read_saved(folder: Path, keep: Path | None) -> Listing:
    """Read what ``Dataset.save_to_disk`` has written.

    Args:
        folder (Path): The folder.
        keep (Path | None): Where images are written that the data set has
            inside it.

    Raises:
        DataError: If it has no column of images, or none of labels.
        RequirementError: If the package ``datasets`` is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise RequirementError(
            f'{folder} is a data set of Hugging Face, for which the package '
            'datasets is needed: pip install datasets'
        ) from None
    if keep is None:
        raise ArgumentError(f'{folder} needs a folder to write images into.')
    loaded = datasets.load_from_disk(str(folder))
    parts = loaded if isinstance(loaded, dict) else {'': loaded}
    listing = Listing(str(folder), str(keep))
    unlabelled = 0
    for name, part in parts.items():
        split = split_named(name)
        if split is None and name:
            raise DataError(
                f'{folder}: the split {name!r} is not train, val or test.'
            )
        image, label = _columns(part.features, folder, datasets.Image)
        part = part.select_columns([image, label])
        part = part.cast_column(image, datasets.Image(decode=False))
        for i, row in enumerate(part):
            path = _as_file(row[image], keep, f'{split or "images"}/{i:07d}')
            names = _names(row[label], part.features[label])
            unlabelled += not names and not isinstance(row[label], list)
            listing.rows.append(Row(path, names, split or ''))
    if unlabelled:
        raise DataError(
            f'{folder} has {unlabelled:,} images without a {label}: leave '
            'them out.'
        )
    return listing


def _split_of(path: str) -> str:
    folders = PurePosixPath(path).parts[:-1]
    return next(filter(None, map(split_named, folders)), '')


def _columns(features: Any, folder: Path, image: type) -> tuple[str, str]:
    images = [name for name, f in features.items() if isinstance(f, image)]
    known = [name for name in LABEL + LABELS if name in features]
    known += [n for n, f in features.items() if hasattr(f, 'names')]
    if not images or not known:
        raise DataError(
            f'{folder} needs a column of images and one called "label"; it '
            f'has {some(features)}.'
        )
    return images[0], known[0]


def _names(value: Any, feature: Any) -> tuple[str, ...]:
    """Return the names of one label or several, which may be numbers."""
    values = value if isinstance(value, list) else [value]
    feature = getattr(feature, 'feature', feature)
    names = getattr(feature, 'names', None)
    if names:  # -1 stands for no label
        return tuple(names[v] for v in values if v is not None and v >= 0)
    return tuple(str(v) for v in values if v is not None)


def _as_file(image: dict[str, Any], keep: Path, name: str) -> str:
    """Return the path of an image, which is written unless it is a file."""
    content = image['bytes']
    if content is None:
        return os.path.abspath(image['path'])
    suffix = PurePosixPath(image['path'] or '').suffix.lower()
    name += suffix if suffix in SUFFIXES else BEGINNINGS.get(content[:2], '')
    path = keep / name
    # What an earlier run wrote is kept, unless it was cut short.
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return name
