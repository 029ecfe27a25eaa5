"""Counts and checks of a data set's labels."""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from mmpretrain.datasets import KFoldDataset

from mmclip.datasets.image_folder import ImageFolder
from mmclip.datasets.image_list import read_labelled_list
from mmclip.datasets.image_tree import number_of
from mmclip.engine.checks.folders import count_images
from mmclip.engine.checks.parts import Part, is_like_custom_dataset, parts_of
from mmclip.errors import DataError, some


@dataclass(frozen=True)
class Split:
    """A data set and its classes.

    Args:
        name (str): The name of the split, such as 'train'.
        dataset (Any): The data set.
        parts (list[Part]): The innermost data sets in it.
        names (list[str]): Class names in the order of the labels; empty if
            unknown.
        counts (Counter[int] | None): Images per label, according to folders
            and lists; None if it has no labels.
    """

    name: str
    dataset: Any
    parts: list[Part]
    names: list[str]
    counts: Counter[int] | None

    @property
    def folders(self) -> list[str]:
        """All class folders in alphabetical order."""
        return sorted({name for part in self.parts for name in part.folders()})

    @property
    def lists(self) -> str:
        """The text ' in LIST' for messages, if files list the images."""
        files = (getattr(part.dataset, 'ann_file', '') for part in self.parts)
        named = sorted({str(file) for file in files if file})
        return f' in {", ".join(named)}' if named else ''


def read_split(name: str, dataset: Any) -> Split:
    """Find out the classes of a data set.

    Labels are not read image by image, since there may be millions.
    """
    parts = list(parts_of(dataset))
    found = [_count(part, name) for part in parts]
    counts = [count for count in found if count is not None]
    return Split(
        name,
        dataset,
        parts,
        names_of(dataset),
        sum(counts, Counter()) if len(counts) == len(parts) else None,
    )


def names_of(dataset: Any) -> list[str]:
    """Return a data set's class names in the order of the labels."""
    metainfo = getattr(dataset, 'metainfo', None) or {}
    return list(metainfo.get('classes') or ())


def _count(part: Part, split: str) -> Counter[int] | None:
    dataset = part.dataset
    in_folders = count_images(dataset, split)
    # mmpretrain's data sets have both.
    if not hasattr(dataset, 'get_gt_labels') or not getattr(
        dataset, 'with_label', True
    ):
        return None
    if getattr(dataset, 'ann_file', None) and (
        isinstance(dataset, ImageFolder)
        or is_like_custom_dataset(type(dataset))
    ):
        samples = read_labelled_list(dataset.ann_file)
        return Counter(label for _, label in samples)
    return Counter(
        {dataset.folder_to_idx[name]: n for name, n in in_folders.items()}
    )


def check_images(split: Split) -> None:
    """Find classes without an image, unless the images were selected.

    A validation set may lack some, as a fold of few images does.

    Raises:
        DataError: If the training set lacks some, or is a fold of classes.
    """
    dataset = split.dataset
    if (
        isinstance(dataset, KFoldDataset)
        and dataset.seed is None
        and not dataset.test_mode
        and split.folders
    ):
        raise DataError(
            f'The {split.name} set is a fold of whole classes: set the seed '
            'of its KFoldDataset, to the same value for training and '
            'validation.'
        )
    if not split.counts or any(part.is_chosen for part in split.parts):
        return
    empty = [n for i, n in enumerate(split.names) if not split.counts[i]]
    if empty:
        lacking = f'The {split.name} set has no image of {some(empty)}.'
        if split.name == 'train':
            raise DataError(lacking)
        print_log(lacking, 'current', logging.WARNING)


def check_labels(split: Split, num_classes: int) -> None:
    """Refuse labels that are negative, start at one, or are too large.

    Larger labels pass if there are no class names and every label up to the
    largest is used: then the head is too small.
    """
    counts = split.counts
    if not counts:
        return
    used = sorted(counts)
    name, where = split.name, split.lists
    if used[0] < 0:
        raise DataError(
            f'The {name} set has the label {used[0]} for '
            f'{number_of(counts[used[0]], "image")}; labels must start at 0'
            f'{where}.'
        )
    if used[0] == 1 and any(part.is_chosen for part in split.parts):
        if used[-1] in {len(split.names), num_classes} - {0}:
            raise DataError(
                f'The labels of the {name} set go from 1 to {used[-1]}, but '
                f'must go from 0 to {used[-1] - 1}: subtract 1 from '
                f'each{where}. The number of classes stays {used[-1]}.'
            )
        if len(used) == used[-1] > 1 and name == 'train':
            print_log(
                f'No image of the train set has the label 0, but all labels '
                f'from 1 to {used[-1]} are used{where}: if there are '
                f'{used[-1]} classes, subtract 1 from each label, or the '
                'model will have a class that does not exist.',
                logger='current',
                level=logging.WARNING,
            )
    limit = len(split.names) or num_classes
    beyond = [label for label in used if label >= limit]
    is_every_label_used = len(used) == used[-1] + 1
    fits = num_classes in (0, used[-1] + 1)
    if not fits and beyond and (split.names or not is_every_label_used):
        images = number_of(sum(counts[label] for label in beyond), 'image')
        raise DataError(
            f'The {name} set has labels beyond {limit - 1} ({some(beyond)}), '
            f'the last of {limit} classes, for {images}: correct the labels'
            f'{where}.'
        )
