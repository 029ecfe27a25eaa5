"""A check that all splits, the head and the weights have the same classes."""

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import Runner

from mmclip.checkpoint.describe import unwrapped
from mmclip.checkpoint.meta import classes_of
from mmclip.datasets.class_order import (
    check_listed,
    check_order,
    in_common,
    list_names,
    misplaced,
    only_in,
)
from mmclip.engine.checks.first_process import DataSetHook
from mmclip.engine.checks.labels import (
    Split,
    check_images,
    check_labels,
    names_of,
    read_split,
)
from mmclip.engine.checks.metrics import check_metrics
from mmclip.errors import DataError, some
from mmclip.registry import HOOKS


@HOOKS.register_module()
class CheckClassesHook(DataSetHook):
    """A hook that compares the classes of all splits, the head and weights.

    mmpretrain numbers the folders of each split separately, so a folder that
    is missing from one split silently shifts all labels after it. So does a
    folder that was missing when the weights were trained, a hidden folder, or
    a list of names in a different order from the folders. The hook also
    reports images that mmpretrain leaves out for their suffix. A test set may
    lack some classes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._trained_classes: Sequence[str] = ()

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the classes that the checkpoint names."""
        self._trained_classes = classes_of(checkpoint) or ()
        self._checked = []

    def check(self, runner: Runner, splits: dict[str, Any]) -> None:
        """Compare the classes of splits with each other and the model's."""
        for name in splits.keys() - {'train'}:
            evaluator = getattr(runner, f'{name}_evaluator')
            check_metrics(name, splits[name], evaluator)
        found = [read_split(name, data) for name, data in splits.items()]
        if len(found) == 2:
            _compare(*(split.names for split in found))
            # Given names do not show which folder is which.
            _compare(*(split.folders for split in found))
        model: Any = unwrapped(runner.model)
        trains = 'train' in splits
        num_classes = getattr(getattr(model, 'head', None), 'num_classes', 0)
        # A list of files does not name classes, but the other split may;
        # otherwise only its largest label is known.
        size = max(len(split.names) for split in found)
        size = size or (0 if trains else num_classes or 0)
        for split in found:
            if split.counts is None:  # as of other packages' data sets
                self._check_names(split)
                continue
            if trains:
                check_images(split)
            check_labels(split, num_classes or 0)
            if num_classes:
                self._check_size(split, size, model)
            self._check_order(split, model)

    def _check_names(self, split: Split) -> None:
        step = 'Give both the same classes in the same order'
        trained = self._trained_classes
        _check_same(split.names, trained, split, 'the checkpoint', step)
        if split.names and trained and not in_common(split.names, trained):
            print_log(
                f'The {split.name} set and the checkpoint have no name of a '
                f'class in common: {some(split.names)}; {some(trained)}.',
                'current',
                logging.WARNING,
            )

    def _check_size(self, split: Split, size: int, model: Any) -> None:
        expected = max(size, max(split.counts or (), default=0) + 1)
        if expected == model.head.num_classes:
            return
        step = f'set model.head.num_classes={expected}, or '
        if getattr(model, 'classes', None):  # FLYP's
            step = f'set model.classes to the {expected} names, or '
        if split.name == 'test' or self._trained_classes:  # a trained head
            step = _differences(split.names, self._trained_classes)
        raise DataError(
            f'The {split.name} set has {expected} classes, but the head has '
            f'{model.head.num_classes}: {step}give the set the classes that '
            'the head has (in metainfo.classes, if a list of files lacks '
            'some).'
        )

    def _check_order(self, split: Split, model: Any) -> None:
        """Compare the order of names, folders, weights and captions."""
        for part in split.parts:
            folders = part.folders()
            names = names_of(part.dataset)
            if len(names) == len(folders) and names != folders:
                check_order(names, folders, 'metainfo.classes')
            file = str(getattr(part.dataset, 'ann_file', ''))
            check_listed(names, part.listed_folders(), file)
        has_head = getattr(getattr(model, 'head', None), 'num_classes', None)
        for others, whose in (
            (self._trained_classes if has_head else (), 'the checkpoint'),
            (getattr(model, 'classes', None) or (), 'model.classes'),  # FLYP's
        ):
            for part in split.parts:
                folders = part.folders()
                step = (
                    'Class folders are numbered alphabetically; '
                    + _differences(folders, others)
                    + f'the names of {whose} must be in the order of the '
                    f'folders: {list_names(folders)}'
                )
                _check_same(folders, others, split, whose, step)
            step = 'Give both the same classes in the same order'
            _check_same(split.names, others, split, whose, step)


def _compare(train: list[str], val: list[str]) -> None:
    if train and val and train != val:
        differences = only_in(train=train, val=val)
        raise DataError(
            'The training and validation sets have different classes, so the '
            'same label would mean different classes '
            f'({differences or "the same in another order"}). Give both the '
            'same classes in the same order.'
        )


def _check_same(
    names: Sequence[str],
    others: Sequence[str],
    split: Split,
    whose: str,
    step: str,
) -> None:
    if wrong := misplaced(names, others):
        raise DataError(
            f'The classes of the {split.name} set and of {whose} are numbered '
            'differently, so the same label would mean different classes: '
            f'{some(wrong)}. {step}. To skip this check, set '
            'default_hooks.check_classes=None.'
        )


def _differences(names: Sequence[str], trained: Sequence[str]) -> str:
    """List the classes that a set and a checkpoint do not share, if any."""
    said = names and trained and only_in(set=names, checkpoint=trained)
    return f'{said}; ' if said else ''
