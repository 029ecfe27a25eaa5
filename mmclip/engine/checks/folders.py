"""A check of the images that ``CustomDataset`` finds and leaves out."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets import ImageNet

from mmclip.datasets.image_tree import (
    ImageTree,
    count_suffixes,
    describe_hidden,
    number_of,
    read_tree,
    warn_of_others,
)
from mmclip.engine.checks.parts import image_loaders
from mmclip.errors import DataError

STEP = (
    "set the data set's type to 'mmclip.ImageFolder' (or mmclip.ImageNet), "
    'which '
)


def count_images(dataset: Any, split: str) -> Counter[str]:
    """Count the images that mmpretrain's data set finds, by class folder.

    Args:
        dataset (CustomDataset): A data set without a list of images.
        split (str): Its name, for messages.

    Raises:
        DataError: If it treats other folders as classes, or leaves images out
            although its suffixes are the default ones.
    """
    if not isinstance(get_file_backend(dataset.img_prefix), LocalBackend):
        return Counter()
    tree = read_tree(dataset.img_prefix)
    _refuse_hidden(dataset, tree)
    warn_of_others(tree)
    taken: Counter[str] = Counter()
    left_out = []
    for path, folder in tree.images:
        is_in_class = folder or not dataset.with_label
        if is_in_class and dataset.is_valid_file(path):
            taken[folder] += 1
        else:
            left_out.append(path)
    if left_out and set(dataset.extensions) == set(ImageNet.IMG_EXTENSIONS):
        _report(dataset, split, left_out)
    return taken


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
            f'{describe_hidden(junk)}. Remove them, or {STEP}leaves them out.'
        )


def _report(dataset: Any, split: str, left_out: list[str]) -> None:
    shown = ', '.join(left_out[:5])
    more = f' and {len(left_out) - 5} more' if len(left_out) > 5 else ''
    message = (
        f'The {split} set leaves out {number_of(len(left_out), "image")} in '
        f'{dataset.img_prefix} ({count_suffixes(left_out)}): {shown}{more}. '
        f'{type(dataset).__name__} takes only {", ".join(_suffixes(dataset))}'
        f', in class folders: {STEP}takes every image, or set extensions to '
        'those that you want.'
    )
    loaders = list(image_loaders(dataset))
    if loaders and all(isinstance(x, LoadImageFromFile) for x in loaders):
        # These loaders may not be able to read them.
        print_log(message, logger='current', level=logging.WARNING)
        return
    raise DataError(message)


def _suffixes(dataset: Any) -> list[str]:
    return sorted(dataset.extensions)
