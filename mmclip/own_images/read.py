"""Reading of a user's images, in whatever form they come."""

import os
from dataclasses import replace
from pathlib import Path

from mmclip.errors import ArgumentError, DataError
from mmclip.own_images import tables
from mmclip.own_images.folders import read_folders
from mmclip.own_images.hugging_face import (
    find_metadata,
    is_saved,
    read_metadata,
    read_saved,
)
from mmclip.own_images.images import Images
from mmclip.own_images.listing import Listing
from mmclip.own_images.splits import split_by_class, take_shots


def read_images(
    source: str | Path,
    seed: int = 0,
    *,
    shots: int | None = None,
    root: str | Path | None = None,
    keep: str | Path | None = None,
) -> Images:
    """Read images, and split them if the user did not.

    Args:
        source (str | Path): A folder with ``train/``, ``val/`` and perhaps
            ``test/``, each with one folder per class; a folder with one
            folder per class; a table (CSV); an ``imagefolder`` of Hugging
            Face, or what its ``Dataset.save_to_disk`` has written.
        seed (int): The seed of a split that is made here. Defaults to 0.
        shots (int | None): How many training images per class to use.
            Defaults to None: all.
        root (str | Path | None): The folder that the paths of a table are
            relative to. Defaults to None: that of the table.
        keep (str | Path | None): Where images are written that the source
            has inside other files. Defaults to None: such a source is
            refused.

    Raises:
        ArgumentError: If ``root`` is given without a table, the seed is
            negative, or ``shots`` is not a positive number.
        DataError: If there are no images, fewer than two classes, or the
            source is not as it should be.
        FileNotFoundError: If there is no such folder or table.
        RequirementError: If a package is missing that reads the source.
    """
    source = Path(source)
    if seed < 0:
        raise ArgumentError(f'The seed must be 0 or more; got {seed}.')
    if shots is not None and shots < 1:
        raise ArgumentError(
            f'The shots per class must be 1 or more; got {shots}.'
        )
    if root and source.is_dir():
        raise ArgumentError(f'--root is for tables, but {source} is a folder.')
    listing = _list(source, _folder(root), _folder(keep))
    images = listing.images()
    if 'val' not in images.splits:
        images = split_by_class(images, seed)
    if shots is not None:
        images = take_shots(images, shots, seed)
    # What is written of them holds in any working directory.
    return replace(images, root=os.path.abspath(images.root))


def _list(source: Path, root: Path | None, keep: Path | None) -> Listing:
    if not source.exists():
        raise FileNotFoundError(f'There is no file or folder {source}.')
    if not source.is_dir():
        if source.suffix.lower() not in tables.SUFFIXES:
            raise DataError(
                f'{source} is neither a folder nor a table '
                f'({", ".join(tables.SUFFIXES)}).'
            )
        return tables.read_table(source, root)
    if is_saved(source):
        return read_saved(source, keep)
    if found := find_metadata(source):
        return read_metadata(found, source)
    return read_folders(source)


def _folder(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
