"""A check that images can be loaded and that splits do not share any."""

import logging
import os
from typing import Any

from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmclip.datasets.load_image import LoadImage, LoadImageError
from mmclip.engine.checks.damage import find_missing, find_unreadable
from mmclip.engine.checks.duplicates import find_shared
from mmclip.engine.checks.first_process import check_once
from mmclip.engine.checks.parts import image_loaders, parts_of
from mmclip.errors import DataError
from mmclip.registry import HOOKS

NAMED = 50  # files in a message


@HOOKS.register_module()
class CheckDataHook(Hook):
    """A hook that checks the image files before the first step.

    It reports at once all files that are missing, empty, truncated or not
    images. A warning names images of the validation set that are also in the
    training set, as links or copies.

    Args:
        max_images (int): Larger sets are not checked file by file, which is
            logged. Defaults to 20,000.
    """

    def __init__(self, max_images: int = 20_000):
        self.max_images = max_images
        self._checked: list[Any] = []  # data sets

    def before_train(self, runner: Runner) -> None:
        """Check the training and the validation set.

        Raises:
            DataError: Naming the images that cannot be loaded.
        """
        splits = {'train': runner.train_dataloader.dataset}
        if runner.val_loop is not None:
            splits['val'] = runner.val_dataloader.dataset
        self._check(splits)

    def before_val(self, runner: Runner) -> None:
        """Check the validation set, unless training did.

        Raises:
            DataError: Naming the images that cannot be loaded.
        """
        self._check(dict(val=runner.val_dataloader.dataset))

    def before_test(self, runner: Runner) -> None:
        """Check the test set.

        Raises:
            DataError: Naming the images that cannot be loaded.
        """
        self._check(dict(test=runner.test_dataloader.dataset))

    def _check(self, splits: dict[str, Any]) -> None:
        """Check sets together, unless all have been checked."""
        known = set(map(id, self._checked))
        if not known.issuperset(map(id, splits.values())):
            self._checked += splits.values()
            check_once(lambda: self._look_at(splits))

    def _look_at(self, splits: dict[str, Any]) -> None:
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
        elif 'val' in splits and 'train' in splits:
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
        if paths and not _is_local(next(iter(paths))):
            return []
        return list(paths)


def _complaints(split: str, dataset: Any, paths: list[str]) -> list[str]:
    """Say what is wrong with a set's images, if it would stop training."""
    loaders = list(image_loaders(dataset))
    if any(map(_reads_elsewhere, loaders)):
        return []
    ours = [load for load in loaders if isinstance(load, LoadImage)]
    if not loaders:
        return []
    errors = find_unreadable(paths) if ours else find_missing(paths)
    if not errors:
        return []
    message = _list_errors(split, len(paths), errors)
    limits = [load.skipped.limit for load in ours if load.skipped]
    skips = split == 'train' and limits and len(limits) == len(ours)
    if skips and len(errors) <= min(limits):
        print_log(
            f"{message}\nThey will be skipped (on_error='skip').",
            logger='current',
            level=logging.WARNING,
        )
        return []
    return [message]


def _reads_elsewhere(load: Any) -> bool:
    """Tell whether images are read from elsewhere than local files."""
    settings = load.backend_args or getattr(load, 'file_client_args', None)
    return (settings or {}).get('backend', 'local') not in ('local', 'disk')


def _list_errors(split: str, size: int, errors: list[LoadImageError]) -> str:
    lines = [f'  {error}' for error in errors[:NAMED]]
    if len(errors) > NAMED:
        lines.append(f'  and {len(errors) - NAMED} more')
    return '\n'.join(
        [
            f'{len(errors)} of the {size} images of the {split} set cannot '
            'be loaded:',
            *lines,
        ]
    )


def _warn_of_shared(train: list[str], val: list[str]) -> None:
    shared = find_shared(train, val)
    if not shared:
        return
    pairs = list(shared.items())
    listed = ', '.join(
        path if path == other else f'{path} is {other}'
        for path, other in pairs[:3]
    )
    print_log(
        f'The validation set shares {len(shared)} of its {len(val)} images '
        f'with the training set: {listed}'
        f'{" and so on" if len(pairs) > 3 else ""}. Accuracy on them says '
        'little about new images: remove them from one of the two.',
        logger='current',
        level=logging.WARNING,
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
    for ours in folders[0]:
        for theirs in folders[1]:
            above = os.path.commonpath([ours, theirs])
            if above in (ours, theirs):
                print_log(
                    f'The validation set is in {theirs} and the training set '
                    f'in {ours}: accuracy on training images says little '
                    'about new ones. Give val_dataloader other images.',
                    logger='current',
                    level=logging.WARNING,
                )


def _is_local(path: str) -> bool:
    return isinstance(get_file_backend(path), LocalBackend)
