"""Splits of images that keep each class's share, and fewer images."""

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mmclip.engine.checks.duplicates import find_copies
from mmclip.errors import DataError
from mmclip.own_images.images import Finding, Images

VALIDATION_SHARE = 0.2


def split_by_class(images: Images, seed: int) -> Images:
    """Take a fifth of each class's training images for validation.

    A class never loses its last training image. With several labels, rare
    classes choose first. Images of which there are exact copies stay in
    training, since what is trained on cannot measure, unless a class has no
    others.

    Args:
        images (Images): With training images only, or training and test.
        seed (int): Which images are drawn.

    Raises:
        DataError: If no class has a second image.
    """
    copied = _copied(images)
    splits = list(images.splits)
    left = images.per_class('train')
    wanted = [max(round(VALIDATION_SHARE * n), 1) for n in left]
    for label, rows in _by_class(images, seed):
        if label is None:
            alone = [row for row in rows if row not in copied]
            for row in (alone or rows)[: round(VALIDATION_SHARE * len(rows))]:
                splits[row] = 'val'
            continue
        for row in [row for row in rows if row not in copied] or rows:
            labels = list(images.labels[row])
            if wanted[label] > 0 and (left[labels] > 1).all():
                splits[row] = 'val'
                left[labels] -= 1
                for name in labels:
                    wanted[name] -= 1
    if 'val' not in splits:
        raise DataError(
            f'{images.root} has one image per class, so none is left to '
            'measure with: nothing can be chosen. Add images, or a folder or '
            'split val.'
        )
    return replace(
        images,
        splits=tuple(splits),
        made_split=f'a fifth of each class for validation, seed {seed}',
    )


def _copied(images: Images) -> set[int]:
    """Return the rows of images of which there are exact copies."""
    rows = {images.full_path(row): row for row in range(len(images))}
    return {
        rows[path]
        for group in find_copies([p for p in rows if os.path.isfile(p)])
        for path in group
    }


def take_shots(images: Images, shots: int, seed: int) -> Images:
    """Keep a number of training images per class, and all others.

    Args:
        images (Images): With their final splits.
        shots (int): How many per class; with several labels, an image counts
            for each, and images without a label are not kept.
        seed (int): Which images are drawn.
    """
    kept = set(np.flatnonzero(np.array(images.splits) != 'train').tolist())
    others, total = len(kept), len(images.rows('train'))
    wanted = np.full(len(images.classes), shots)
    passed = []
    for label, rows in _by_class(images, seed):
        if label is None:
            continue
        enough = max(wanted[label], 0)
        for row in rows[:enough]:
            kept.add(row)
            wanted[list(images.labels[row])] -= 1
        passed += rows[enough:]
    # A class may have been drawn only with images of rarer ones.
    for row in passed:
        labels = list(images.labels[row])
        if (wanted[labels] > 0).any():
            kept.add(row)
            wanted[labels] -= 1
    used = len(kept) - others
    findings = list(images.findings)
    if used < total:
        findings.append(
            Finding(
                'shots',
                f'{total - used:,} of {total:,} training images are not used: '
                f'{shots} per class are asked for.',
            )
        )
    return replace(images.take(sorted(kept)), findings=tuple(findings))


def _by_class(
    images: Images, seed: int
) -> Iterator[tuple[int | None, list[int]]]:
    """Yield each class with training images of it, in a random order.

    Each image comes once, with the rarest of its classes; those without a
    label come last, with None.
    """
    random = np.random.default_rng(seed)
    counts = images.per_class('train')
    groups: dict[int | None, list[int]] = {}
    for row in images.rows('train').tolist():
        labels = images.labels[row]
        rarest = min(labels, key=lambda n: (counts[n], n)) if labels else None
        groups.setdefault(rarest, []).append(row)
    order = np.argsort(counts, kind='stable').tolist()
    for label in (*order, None):
        if label in groups:
            yield label, random.permutation(groups[label]).tolist()
