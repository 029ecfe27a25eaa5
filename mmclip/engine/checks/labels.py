"""Labels of a data set: how often each is used, and whether they can be."""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from mmpretrain.datasets import KFoldDataset

from mmclip.datasets.image_list import read_labelled_list
from mmclip.datasets.image_tree import number_of
from mmclip.engine.checks.folders import count_images
from mmclip.engine.checks.parts import Part, parts_of
from mmclip.errors import DataError


@dataclass(frozen=True)
class Split:
    """What a data set says of its classes.

    Args:
        name (str): Such as 'train'.
        dataset (Any): The data set.
        parts (list[Part]): Those in it that hold no other.
        names (list[str]): Of the classes, in the order of the labels; none
            where it does not say.
        counts (Counter[int] | None): Images of each label, as its folders and
            text files list them; None if it has no labels.
    """

    name: str
    dataset: Any
    parts: list[Part]
    names: list[str]
    counts: Counter[int] | None

    @property
    def folders(self) -> list[str]:
        """All class folders, by the alphabet."""
        return sorted({name for part in self.parts for name in part.folders()})

    @property
    def lists(self) -> str:
        """' in LIST', for messages, if images are listed in files."""
        files = (getattr(part.dataset, 'ann_file', '') for part in self.parts)
        named = sorted({str(file) for file in files if file})
        return f' in {", ".join(named)}' if named else ''


def read_split(name: str, dataset: Any) -> Split:
    """Find out what a data set says of its classes.

    No image is asked for its label: there may be millions.

    Args:
        name (str): Such as 'train', for messages.
        dataset (Any): A data set, which may hold others.

    Raises:
        DataError: If folders hold what is not in the set.
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
    """Names of its classes, in the order of the labels, if it has any."""
    metainfo = getattr(dataset, 'metainfo', None) or {}
    return list(metainfo.get('classes') or ())


def _count(part: Part, split: str) -> Counter[int] | None:
    dataset = part.dataset
    in_folders: Counter[str] = Counter()
    if part.lists_as_mmpretrain():
        in_folders = count_images(dataset, split)
    elif part.lists_folders():
        len(dataset)  # lists its images, if it has not
        in_folders = dataset.images_per_folder
    # As mmpretrain's have.
    if not hasattr(dataset, 'get_gt_labels') or not getattr(
        dataset, 'with_label', True
    ):
        return None
    if part.has_text_list():
        samples = read_labelled_list(dataset.ann_file)
        return Counter(label for _, label in samples)
    return Counter(
        {dataset.folder_to_idx[name]: n for name, n in in_folders.items()}
    )


def check_images(split: Split) -> None:
    """Refuse classes without an image, unless somebody chose the images.

    Raises:
        DataError: Naming the classes, or what leaves them out.
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
            'of its KFoldDataset, the same for training and validation.'
        )
    if not split.counts or any(part.is_chosen for part in split.parts):
        return
    empty = [n for i, n in enumerate(split.names) if not split.counts[i]]
    if empty:
        raise DataError(
            f'The {split.name} set has no image of {", ".join(empty[:10])}.'
        )


def check_labels(split: Split, num_classes: int) -> None:
    """Refuse labels below zero, that begin at one, or beyond the classes.

    Beyond them may be some if no name is given and every label up to the
    largest is used: then the head is too small.

    Args:
        split (Split): A data set with labels.
        num_classes (int): Of the head, or 0.

    Raises:
        DataError: Saying what the labels are, and what they have to be.
    """
    counts = split.counts or Counter()
    used = sorted(counts)
    if not used:
        return
    name, where = split.name, split.lists
    if used[0] < 0:
        raise DataError(
            f'The {name} set has the label {used[0]} at '
            f'{number_of(counts[used[0]], "image")}; labels begin at 0'
            f'{where}.'
        )
    if used[0] == 1 and any(part.is_chosen for part in split.parts):
        if used[-1] in {len(split.names), num_classes} - {0}:
            raise DataError(
                f'The labels of the {name} set go from 1 to {used[-1]}, and '
                f'must go from 0 to {used[-1] - 1}: subtract 1 from '
                f'each{where}. The number of classes stays {used[-1]}.'
            )
        if len(used) == used[-1] > 1 and name == 'train':
            print_log(
                f'No image of the train set has the label 0, and all from 1 '
                f'to {used[-1]} are used{where}: if there are {used[-1]} '
                'classes, subtract 1 from each label, or the model learns a '
                'class that does not exist.',
                logger='current',
                level=logging.WARNING,
            )
    limit = len(split.names) or num_classes
    beyond = [label for label in used if label >= limit]
    is_every_label_used = len(used) == used[-1] + 1
    fits = num_classes in (0, used[-1] + 1)
    if not fits and beyond and (split.names or not is_every_label_used):
        raise DataError(
            f'The {name} set has labels beyond {limit - 1} '
            f'({", ".join(map(str, beyond[:5]))}'
            f'{" ..." if len(beyond) > 5 else ""}), the last of {limit} '
            f'classes, at {number_of(sum(counts[b] for b in beyond), "image")}'
            f': correct the labels{where}.'
        )
