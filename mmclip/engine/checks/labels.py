"""Labels of a data set: how often each is used, and whether they can be."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log

from mmclip.datasets.image_tree import number_of
from mmclip.engine.checks.folders import count_images
from mmclip.engine.checks.parts import Part
from mmclip.errors import DataError


def count_labels(parts: Sequence[Part], split: str) -> Counter[int] | None:
    """Count images by label, of which an image may have several.

    Args:
        parts (Sequence[Part]): Of the data set.
        split (str): Its name, for messages.

    Returns:
        Counter[int] | None: None if a part has no labels, or does not say
        which.

    Raises:
        DataError: If folders hold what is not in the set.
    """
    counts: Counter[int] = Counter()
    has_labels = True
    for part in parts:
        dataset = part.dataset
        in_folders = None
        if part.lists_as_mmpretrain():
            in_folders = count_images(dataset, split)
        elif part.lists_folders():
            len(dataset)  # lists its images, if it has not
            in_folders = dataset.images_per_folder
        # As mmpretrain's are.
        if not hasattr(dataset, 'get_gt_labels') or not getattr(
            dataset, 'with_label', True
        ):
            has_labels = False
        elif in_folders and not part.is_chosen:  # a million need no call each
            labels = dataset.folder_to_idx
            for folder, count in in_folders.items():
                counts[labels[folder]] += count
        else:
            for i in range(len(dataset)):
                counts.update(map(int, dataset.get_cat_ids(i)))
    return counts if has_labels else None


def check_range(
    split: str,
    parts: Sequence[Part],
    counts: Counter[int],
    names: Sequence[str],
    num_classes: int,
) -> None:
    """Refuse labels below zero, and those that begin at one.

    Args:
        split (str): The name of the set.
        parts (Sequence[Part]): Its data sets.
        counts (Counter[int]): From :func:`count_labels`.
        names (Sequence[str]): Of the classes, if there are any.
        num_classes (int): Of the head, or 0.

    Raises:
        DataError: Saying what the labels are, and what they have to be.
    """
    used = sorted(counts)
    if not used:
        return
    where = lists_of(parts)
    if used[0] < 0:
        raise DataError(
            f'The {split} set has the label {used[0]} at '
            f'{number_of(counts[used[0]], "image")}; labels begin at 0'
            f'{where}.'
        )
    if used[0] != 1 or not any(part.is_chosen for part in parts):
        return
    if used[-1] in {len(names), num_classes} - {0}:
        raise DataError(
            f'The labels of the {split} set go from 1 to {used[-1]}, and '
            f'must go from 0 to {used[-1] - 1}: subtract 1 from '
            f'each{where}. The number of classes stays {used[-1]}.'
        )
    if len(used) == used[-1] > 1 and split == 'train':
        print_log(
            f'No image of the train set has the label 0, and all from 1 to '
            f'{used[-1]} are used{where}: if there are {used[-1]} classes, '
            'subtract 1 from each label, or the model learns a class that '
            'does not exist.',
            logger='current',
            level=logging.WARNING,
        )


def refuse_stray(
    split: str,
    parts: Sequence[Part],
    counts: Counter[int],
    names: Sequence[str],
    num_classes: int,
) -> None:
    """Refuse labels beyond the classes, unless there may be more classes.

    There may be if no name is given and every label up to the largest is
    used.

    Args:
        split (str): The name of the set.
        parts (Sequence[Part]): Its data sets.
        counts (Counter[int]): From :func:`count_labels`.
        names (Sequence[str]): Of the classes, if there are any.
        num_classes (int): Of the head.

    Raises:
        DataError: Naming the labels.
    """
    limit = len(names) or num_classes
    beyond = sorted(label for label in counts if label >= limit)
    is_every_label_used = len(counts) == max(counts, default=-1) + 1
    if not beyond or (is_every_label_used and not names):
        return
    images = number_of(sum(counts[label] for label in beyond), 'image')
    raise DataError(
        f'The {split} set has labels beyond {limit - 1} '
        f'({", ".join(map(str, beyond[:5]))}'
        f'{" ..." if len(beyond) > 5 else ""}), the last of '
        f'{limit} classes, at {images}: correct the '
        f'labels{lists_of(parts)}.'
    )


def lists_of(parts: Sequence[Part]) -> str:
    """' in LIST', for messages, if images are listed in files."""
    files: list[Any] = [
        getattr(part.dataset, 'ann_file', None) for part in parts
    ]
    named = sorted({str(file) for file in files if file})
    return f' in {", ".join(named)}' if named else ''
