"""Folders of images, with one folder per class."""

from collections import defaultdict
from pathlib import Path

from mmclip.datasets.image_tree import (
    ImageTree,
    class_folders,
    count_suffixes,
    read_tree,
)
from mmclip.errors import DataError, some
from mmclip.own_images.images import Finding
from mmclip.own_images.listing import Listing, Row, number, split_named


def read_folders(folder: Path) -> Listing:
    """Read class folders, below folders of splits or not.

    Raises:
        DataError: If images are outside class folders, or there are none.
    """
    listing = Listing(str(folder), str(folder))
    by_split = folders_of_splits(folder)
    # A folder 'train' without class folders, beside others, is a class.
    beside = [
        name for name in class_folders(str(folder)) if not split_named(name)
    ]
    if beside and not any(
        class_folders(str(folder / name)) for name in by_split.values()
    ):
        listing.findings += [
            Finding(
                'named_like_split',
                f'{name} is taken for a class, because it has no class '
                'folders.',
            )
            for name in by_split.values()
        ]
        by_split = {}
    if by_split and 'train' not in by_split:
        raise DataError(
            f'{folder} has the folders {some(by_split.values())}, but no '
            'train/.'
        )
    if by_split and beside:
        listing.findings.append(
            Finding(
                'left_out',
                f'Left out, because they are not in a split: {some(beside)}.',
                tuple(beside),
            )
        )
    others: list[str] = []
    for split, name in (by_split or {'': ''}).items():
        tree = read_tree(str(folder / name))
        _refuse_loose(tree, by_split)
        start = f'{name}/' if name else ''
        listing.rows += [
            Row(start + path, (label,), split) for path, label in tree.images
        ]
        listing.findings += _left_out(tree, start)
        others += [start + path for path in tree.others]
    if not listing.rows:
        raise DataError(f'{folder} has no images{_instead(folder, others)}.')
    if len({row.labels for row in listing.rows}) == 1:
        raise DataError(_one_class(folder, listing.rows[0]))
    return listing


def folders_of_splits(folder: Path) -> dict[str, str]:
    """Return the folder of each split, by split.

    Raises:
        DataError: If a split has two folders.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name in class_folders(str(folder)):
        if split := split_named(name):
            found[split].append(name)
    for split, names in found.items():
        if len(names) > 1:
            raise DataError(
                f'{folder} has {len(names)} folders of the {split} set: '
                f'{some(names)}. Keep one of them.'
            )
    return {split: names[0] for split, names in found.items()}


def _refuse_loose(tree: ImageTree, by_split: dict[str, str]) -> None:
    loose = [path for path, label in tree.images if not label]
    if not loose:
        return
    if not tree.folders and not by_split:
        raise DataError(
            f'{tree.root} has {number(loose, "image")} and no class folders: '
            'make one folder per class, or give a table (CSV) with the '
            f'columns path and label{_tables(Path(tree.root))}.'
        )
    raise DataError(
        f'{tree.root} has images outside its class folders: {some(loose)}. '
        'Move each into the folder of its class, or elsewhere.'
    )


def _left_out(tree: ImageTree, start: str) -> list[Finding]:
    findings = []
    if tree.hidden:
        paths = [start + path for path in tree.hidden]
        findings.append(
            Finding(
                'hidden',
                f'Left out, because they are hidden or made by a system: '
                f'{some(paths)}.',
                tuple(paths),
            )
        )
    if tree.others:
        paths = [start + path for path in tree.others]
        findings.append(
            Finding(
                'others',
                f'Left out {number(paths, "file")} that cannot be read as an '
                f'image ({count_suffixes(paths)}), such as {paths[0]}.',
                tuple(paths),
            )
        )
    full = {label for _, label in tree.images}
    if empty := [start + name for name in tree.folders if name not in full]:
        findings.append(
            Finding(
                'empty',
                f'Left out {number(empty, "class folder")} without an image: '
                f'{some(empty)}.',
                tuple(empty),
            )
        )
    nested = [start + path for path, _ in tree.images if path.count('/') > 1]
    if nested:
        findings.append(
            Finding(
                'nested',
                f'{number(nested, "image")} in folders inside a class folder '
                f'count for that class, such as {nested[0]}.',
                tuple(nested),
            )
        )
    return findings


def _one_class(folder: Path, row: Row) -> str:
    inside = folder / row.path.partition('/')[0]
    deeper = class_folders(str(inside))
    inner = len(deeper) > 1 and not row.split
    hint = f' If you mean its folders {some(deeper)}, give {inside}.'
    return (
        f'{folder} has images of one class only ({row.labels[0]}): at least '
        f'two are needed, one folder per class{_tables(folder)}.'
        f'{hint if inner else ""}'
    )


def _instead(folder: Path, others: list[str]) -> str:
    """Say what there is instead of images, for messages."""
    if parquet := next(folder.rglob('*.parquet'), None):
        return (
            f', but {parquet.relative_to(folder)}. The package datasets makes '
            f'a folder that can be read: datasets.load_dataset({str(folder)!r}'
            ").save_to_disk('FOLDER')"
        )
    if others:
        return (
            f', but {number(others, "file")} that cannot be read as an image '
            f'({count_suffixes(others)}), such as {others[0]}'
        )
    names = sorted(path.name for path in folder.iterdir())
    return f'; it has {some(names)}' if names else ': it is empty'


def _tables(folder: Path) -> str:
    tables = sorted(p for p in folder.iterdir() if p.suffix.lower() == '.csv')
    return f'. If {tables[0]} lists them, give that' if tables else ''
