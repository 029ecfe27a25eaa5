"""A check of the images that ``CustomDataset`` finds and leaves out."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets import ImageNet

from mmclip.datasets.image_folder import ImageFolder
from mmclip.datasets.image_tree import (
    ImageTree,
    count_suffixes,
    number_of,
    read_tree,
    warn_of_others,
)
from mmclip.engine.checks.parts import image_loaders, is_like_custom_dataset
from mmclip.errors import DataError, some

STEP = (
    "set the data set's type to 'mmclip.ImageFolder' (or mmclip.ImageNet), "
    'which '
)


def count_images(dataset: Any, split: str) -> Counter[str]:
    """Count the images that a data set finds, by class folder.

    There are none if a file lists them, or if it does not find them as
    mmpretrain's ``CustomDataset`` does.

    Raises:
        DataError: If it treats other folders as classes, or leaves images out
            although its suffixes are the default ones.
    """
    if getattr(dataset, 'ann_file', None):
        return Counter()
    if isinstance(dataset, ImageFolder):
        len(dataset)  # lists its images, if that has not been done
        return dataset.images_per_folder or Counter()
    if not is_like_custom_dataset(type(dataset)) or not isinstance(
        get_file_backend(dataset.img_prefix), LocalBackend
    ):
        return Counter()
    tree = read_tree(dataset.img_prefix)
    _refuse_hidden(dataset, tree)
    warn_of_others(tree)
    taken = {
        path: folder
        for path, folder in tree.images
        if dataset.is_valid_file(path) and (folder or not dataset.with_label)
    }
    left_out = [path for path, _ in tree.images if path not in taken]
    if left_out and set(dataset.extensions) == set(ImageNet.IMG_EXTENSIONS):
        _report(dataset, split, left_out)
    return Counter(taken.values())


def _refuse_hidden(dataset: Any, tree: ImageTree) -> None:
    root = Path(tree.root)
    junk = [
        path
        for path in tree.hidden
        if (root / path).is_dir()
        and (
            ('/' not in path and dataset.with_label)
            or any(
                dataset.is_valid_file(file.name)
                and not file.name.startswith('.')
                for file in (root / path).rglob('*')
            )
        )
    ]
    if junk:
        raise DataError(
            f'{tree.root} has folders that are not part of the data, but '
            f'{type(dataset).__name__} would use them: '
            f'{some(junk)}. Remove them, or {STEP}leaves them out.'
        )


def _report(dataset: Any, split: str, left_out: list[str]) -> None:
    message = (
        f'The {split} set leaves out {number_of(len(left_out), "image")} in '
        f'{dataset.img_prefix} ({count_suffixes(left_out)}): {some(left_out)}.'
        f' {type(dataset).__name__} takes only '
        f'{", ".join(sorted(dataset.extensions))}, in class folders: {STEP}'
        'takes every image, or set extensions to those that you want.'
    )
    loaders = list(image_loaders(dataset))
    if not loaders or not all(
        isinstance(load, LoadImageFromFile) for load in loaders
    ):
        raise DataError(message)
    # These loaders may not be able to read them.
    print_log(message, logger='current', level=logging.WARNING)
