"""What is wrong or doubtful about images, before anything runs."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from mmengine.utils import to_2tuple

from mmclip.datasets.transforms.load_image import LoadImageError
from mmclip.engine.checks.damage import read_sizes
from mmclip.engine.checks.duplicates import find_copies
from mmclip.errors import DataError, some
from mmclip.own_images.images import SPLITS, Finding, Images
from mmclip.own_images.listing import number

NAMED = 50  # files in a message
MOST = 200  # paths in a finding
UNEVEN = 10  # times as many images
FEW = 5  # images of a class: one per fold of the cross-validation


def survey(images: Images) -> tuple[list[Finding], np.ndarray]:
    """Look over all images, reading only the header and end of each file.

    Damage inside a JPEG shows only when it is loaded.

    Args:
        images (Images): The images.

    Returns:
        tuple[list[Finding], np.ndarray]: What is doubtful, with what reading
        has found; and the width and height of each image, ``(N, 2)``.

    Raises:
        DataError: If images cannot be loaded; the message lists them.
    """
    paths = [images.full_path(row) for row in range(len(images))]
    sizes = read_sizes(paths)
    refuse_unreadable([s for s in sizes if isinstance(s, LoadImageError)])
    rows = {path: row for row, path in enumerate(paths)}
    copies = [[rows[p] for p in group] for group in find_copies(paths)]
    findings = [
        *images.findings,
        *_counts(images),
        *_alike(images.classes),
        *_copies(images, copies),
    ]
    findings = [replace(f, paths=f.paths[:MOST]) for f in findings]
    return findings, np.array(sizes)


def find_small(
    images: Images, sizes: np.ndarray, size: int | tuple[int, int]
) -> list[Finding]:
    """Find images that are smaller than a model's input.

    Args:
        images (Images): The images.
        sizes (np.ndarray): Their widths and heights, ``(N, 2)``.
        size (int | tuple[int, int]): The model's height and width.
    """
    height, width = to_2tuple(size)
    small = np.flatnonzero((sizes < (width, height)).any(axis=1))
    if not len(small):
        return []
    row = int(sizes.min(axis=1).argmin())
    many = 'All' if len(small) == len(images) else f'{len(small):,}'
    return [
        Finding(
            'small',
            f'{many} images are smaller than the {width} x {height} pixels '
            f'that the model sees, and are enlarged; the smallest is '
            f'{images.paths[row]} ({sizes[row, 0]} x {sizes[row, 1]}).',
            tuple(images.paths[row] for row in small[:MOST]),
        )
    ]


def refuse_unreadable(errors: Sequence[LoadImageError]) -> None:
    """Refuse images that cannot be loaded, if there are any.

    Raises:
        DataError: The message lists them.
    """
    if not errors:
        return
    lines = [f'{number(errors, "image")} cannot be loaded:']
    lines += [f'  {error}' for error in errors[:NAMED]]
    if len(errors) > NAMED:
        lines.append(f'  and {len(errors) - NAMED:,} more')
    raise DataError('\n'.join(lines))


def _counts(images: Images) -> Iterator[Finding]:
    counts = images.per_class('train')
    names = np.array(images.classes, dtype=object)
    most, least = int(counts.argmax()), int(counts.argmin())
    ratio = counts[most] / counts[least]
    if ratio >= UNEVEN:
        yield Finding(
            'uneven',
            f'{names[most]} has {counts[most]:,} training images, '
            f'{ratio:,.0f} times as many as {names[least]} '
            f'({counts[least]:,}).',
        )
    few = np.flatnonzero(counts < FEW)
    if counts[most] == 1:
        yield Finding(
            'few',
            'No class has a second training image, so no setting can be '
            'chosen by cross-validation.',
        )
    elif len(few):
        named = (f'{names[k]} ({counts[k]})' for k in few)
        yield Finding(
            'few',
            f'Fewer than {FEW} training images in {len(few):,} of '
            f'{number(counts, "class", "classes")}: {some(named)}.',
        )
    for split in SPLITS[1:]:
        lacking = np.flatnonzero(images.per_class(split) == 0)
        if split in images.splits and len(lacking):
            yield Finding(
                'lacking',
                f'The {split} set has no image of '
                f'{number(lacking, "class", "classes")}: '
                f'{some(names[lacking])}.',
            )


def _alike(classes: Sequence[str]) -> Iterator[Finding]:
    by_plain: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        plain = unicodedata.normalize('NFKC', name).casefold()
        by_plain[re.sub(r'[\s_-]+', ' ', plain).strip()].append(name)
    if alike := [names for names in by_plain.values() if len(names) > 1]:
        pairs = (' and '.join(map(repr, names)) for names in alike)
        yield Finding(
            'alike',
            'Classes whose names differ only in case, spaces, hyphens or '
            f'the coding of accents: {some(pairs)}. Are they the same?',
        )


def _copies(images: Images, groups: list[list[int]]) -> Iterator[Finding]:
    def found(kind: str, text: str, chosen: list[list[int]]) -> Finding:
        paths = [images.paths[row] for group in chosen for row in group]
        pairs = (
            ' = '.join(images.paths[row] for row in group) for group in chosen
        )
        return Finding(kind, f'{text}: {some(pairs, 3)}.', tuple(paths))

    contradictory = [
        group
        for group in groups
        if len({images.labels[row] for row in group}) > 1
    ]
    across = [
        group
        for group in groups
        if len({images.splits[row] for row in group}) > 1
    ]
    within = [g for g in groups if g not in contradictory and g not in across]
    if contradictory:
        yield found(
            'contradictory',
            f'{number(contradictory, "image")} with copies that have another '
            'label, so one of them is wrong',
            contradictory,
        )
    if across:
        yield found(
            'shared',
            f'{number(across, "image")} in more than one split, so the '
            'accuracy is too good',
            across,
        )
    if within:
        yield found(
            'copies',
            f'{number(within, "image")} with copies in the same split',
            within,
        )
