"""A check that images can be loaded and that splits do not share any."""

import logging
import os
from itertools import product
from typing import Any

from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmclip.datasets.transforms.load_image import LoadImage
from mmclip.engine.checks.damage import find_missing, find_unreadable
from mmclip.engine.checks.duplicates import find_shared
from mmclip.engine.checks.first_process import DataSetHook
from mmclip.engine.checks.parts import image_loaders, parts_of
from mmclip.errors import DataError, some
from mmclip.registry import HOOKS

NAMED = 50  # files in a message


@HOOKS.register_module()
class CheckDataHook(DataSetHook):
    """A hook that checks the image files before the first step.

    It reports at once all files that are missing, empty, truncated or not
    images. A warning names images of the validation set that are also in the
    training set, as links or copies.

    Args:
        max_images (int): Larger sets are not checked file by file, which is
            logged. Defaults to 20,000.
    """

    def __init__(self, max_images: int = 20_000):
        super().__init__()
        self.max_images = max_images

    def check(self, runner: Runner, splits: dict[str, Any]) -> None:
        """Look for images that cannot be loaded or that splits share."""
        paths = {
            split: found
            for split, dataset in splits.items()
            if (found := self._local_images(split, dataset))
        }
        problems = []
        for split, found in paths.items():
            problems += _complaints(split, splits[split], found)
        if problems:
            raise DataError('\n'.join(problems))
        if 'train' in paths and 'val' in paths:
            _warn_of_shared(paths['train'], paths['val'])
        elif len(splits) == 2:
            _warn_of_shared_folders(splits['train'], splits['val'])

    def _local_images(self, split: str, dataset: Any) -> list[str]:
        """List each path once; none if they are too many or not local."""
        parts = [part for part in parts_of(dataset) if part.lists_images()]
        size = sum(len(part.dataset) for part in parts)
        if size > self.max_images:
            print_log(
                f'The {split} set has {size:,} images, more than '
                f'{self.max_images:,}: damaged images, and images shared by '
                'training and validation, are not looked for '
                '(default_hooks.check_data.max_images).',
                logger='current',
            )
            return []
        paths = dict.fromkeys(path for part in parts for path in part.paths())
        local = paths and get_file_backend(next(iter(paths)))
        return list(paths) if isinstance(local, LocalBackend) else []


def _complaints(split: str, dataset: Any, paths: list[str]) -> list[str]:
    """Say what is wrong with a set's images, if it would stop training."""
    loaders = list(image_loaders(dataset))
    if not loaders or any(map(_reads_elsewhere, loaders)):
        return []
    ours = [load for load in loaders if isinstance(load, LoadImage)]
    errors = find_unreadable(paths) if ours else find_missing(paths)
    if not errors:
        return []
    lines = [
        f'{len(errors)} of the {len(paths)} images of the {split} set cannot '
        'be loaded:',
        *(f'  {error}' for error in errors[:NAMED]),
    ]
    if len(errors) > NAMED:
        lines.append(f'  and {len(errors) - NAMED} more')
    limits = [load.skipped.limit for load in ours if load.skipped]
    skips = split == 'train' and limits and len(limits) == len(ours)
    if skips and len(errors) <= min(limits):
        _warn(
            '\n'.join(
                [
                    *lines,
                    "They will be skipped (on_error='skip').",
                ]
            )
        )
        return []
    return ['\n'.join(lines)]


def _reads_elsewhere(load: Any) -> bool:
    """Tell whether images are read from elsewhere than local files."""
    settings = load.backend_args or getattr(load, 'file_client_args', None)
    return (settings or {}).get('backend', 'local') not in ('local', 'disk')


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)


def _warn_of_shared(train: list[str], val: list[str]) -> None:
    if shared := find_shared(train, val):
        pairs = [
            path if path == other else f'{path} is {other}'
            for path, other in shared.items()
        ]
        _warn(
            f'The validation set shares {len(shared)} of its {len(val)} '
            f'images with the training set: {some(pairs, 3)}. Accuracy on '
            'them says little about new images: remove them from one of the '
            'two.'
        )


def _warn_of_shared_folders(train: Any, val: Any) -> None:
    """Warn about shared folders of sets too large to compare files."""
    folders = [
        {
            os.path.realpath(part.root())
            for part in parts_of(dataset)
            if not part.is_chosen and part.root()
        }
        for dataset in (train, val)
    ]
    for ours, theirs in product(*folders):
        if os.path.commonpath([ours, theirs]) in (ours, theirs):
            _warn(
                f'The validation set is in {theirs} and the training set in '
                f'{ours}: accuracy on training images says little about new '
                'ones. Give val_dataloader other images.'
            )
