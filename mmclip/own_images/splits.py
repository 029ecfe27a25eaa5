"""Splits of images that keep each class's share."""

from dataclasses import replace

import numpy as np

from mmclip.own_images.table import Images

VALIDATION_SHARE = 0.2


def split_by_class(images: Images, seed: int) -> Images:
    """Take a fifth of each class's training images for validation.

    A class of one image keeps it for training.

    Args:
        images (Images): With training images only, or training and test.
        seed (int): Which images are drawn.
    """
    random = np.random.default_rng(seed)
    splits = list(images.splits)
    groups: dict[tuple[int, ...], list[int]] = {}
    for row in images.rows('train'):
        groups.setdefault(images.labels[row][:1], []).append(int(row))
    for rows in groups.values():
        number = round(VALIDATION_SHARE * len(rows))
        number = min(max(number, 1), len(rows) - 1)
        for row in random.permutation(rows)[:number]:
            splits[row] = 'val'
    return replace(
        images,
        splits=tuple(splits),
        made_split=f'a fifth of each class for validation, seed {seed}',
    )
