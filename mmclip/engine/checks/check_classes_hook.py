"""A check that all splits, the head and the weights have the same classes."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmclip.checkpoint.describe import unwrapped
from mmclip.checkpoint.meta import classes_of
from mmclip.datasets.class_order import (
    check_listed,
    check_order,
    list_names,
    misplaced,
    warn_of_numbers,
)
from mmclip.engine.checks.first_process import check_once
from mmclip.engine.checks.labels import (
    Split,
    check_images,
    check_labels,
    names_of,
    read_split,
)
from mmclip.engine.checks.metrics import check_metrics
from mmclip.errors import DataError
from mmclip.registry import HOOKS


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """A hook that compares the classes of all splits, the head and weights.

    mmpretrain numbers the folders of each split separately, so a folder that
    is missing from one split silently shifts all labels after it. So does a
    folder that was missing when the weights were trained, a hidden folder, or
    a list of names in a different order from the folders. The hook also
    reports images that mmpretrain leaves out for their suffix.
    """

    def __init__(self) -> None:
        self._trained_classes: Sequence[str] = ()
        self._is_checked = False

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the classes that the checkpoint names."""
        self._trained_classes = classes_of(checkpoint) or ()

    def before_train(self, runner: Runner) -> None:
        """Check the training and the validation set.

        Raises:
            DataError: If classes differ, are empty, or do not fit the head,
                the weights or the metric; the message names them.
        """
        self._is_checked = True
        datasets = {'train': runner.train_dataloader.dataset}
        if runner.val_loop is not None:
            datasets['val'] = runner.val_dataloader.dataset
            check_metrics('val', datasets['val'], runner.val_evaluator)
        self._check(runner, datasets)

    def before_val(self, runner: Runner) -> None:
        """Check the validation set, unless training did.

        Raises:
            DataError: As in :meth:`before_test`.
        """
        if not self._is_checked:
            self._is_checked = True
            dataset = runner.val_dataloader.dataset
            check_metrics('val', dataset, runner.val_evaluator)
            self._check(runner, dict(val=dataset))

    def before_test(self, runner: Runner) -> None:
        """Check the head against the test set, which may lack some classes.

        Raises:
            DataError: If the number or order of classes differs, or the
                metric does not suit the test set.
        """
        dataset = runner.test_dataloader.dataset
        check_metrics('test', dataset, runner.test_evaluator)
        self._check(runner, dict(test=dataset))

    def _check(self, runner: Runner, datasets: dict[str, Any]) -> None:
        model = unwrapped(runner.model)
        check_once(lambda: self._compare_all(datasets, model))

    def _compare_all(self, datasets: dict[str, Any], model: Any) -> None:
        splits = [read_split(name, data) for name, data in datasets.items()]
        trains = 'train' in datasets
        if len(splits) == 2:
            _compare(*(split.names for split in splits))
            # Given names do not show which folder is which.
            _compare(*(split.folders for split in splits))
        num_classes = getattr(getattr(model, 'head', None), 'num_classes', 0)
        # A list of files does not name classes, but the other split may;
        # otherwise only its largest label is known.
        size = max(len(split.names) for split in splits)
        size = size or (0 if trains else num_classes or 0)
        for split in splits:
            if split.counts is None:
                continue
            if trains:
                check_images(split)
            check_labels(split, num_classes or 0)
            if num_classes:
                self._check_size(split, size, model)
            self._check_order(split, model)

    def _check_size(self, split: Split, size: int, model: Any) -> None:
        expected = max(size, max(split.counts or (), default=0) + 1)
        if expected == model.head.num_classes:
            return
        step = f'set model.head.num_classes={expected}, or '
        if getattr(model, 'classes', None):  # FLYP's
            step = f'set model.classes to the {expected} names, or '
        if split.name == 'test' or self._trained_classes:  # a trained head
            step = _only_in(split.names, self._trained_classes)
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
                warn_of_numbers(names, folders)
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
                    + _only_in(folders, others)
                    + f'the names of {whose} must be in the order of the '
                    f'folders: {list_names(folders)}'
                )
                _check_same(folders, others, split, whose, step)
            step = 'Give both the same classes in the same order'
            _check_same(split.names, others, split, whose, step)


def _compare(train: list[str], val: list[str]) -> None:
    if not train or not val or train == val:
        return
    differences = [
        f'{what}: {", ".join(map(str, names[:10]))}'
        for what, names in (
            ('only in train', [c for c in train if c not in val]),
            ('only in val', [c for c in val if c not in train]),
        )
        if names
    ]
    raise DataError(
        'The training and validation sets have different classes, so the '
        'same label would mean different classes '
        f'({"; ".join(differences) or "the same in another order"}). Give '
        'both the same class folders.'
    )


def _check_same(
    names: Sequence[str],
    others: Sequence[str],
    split: Split,
    whose: str,
    step: str,
) -> None:
    wrong = misplaced(names, others)
    if wrong:
        listed = ', '.join(
            f'{name!r} is number {i} and {j}' for name, i, j in wrong[:5]
        )
        raise DataError(
            f'The classes of the {split.name} set and of {whose} are numbered '
            'differently, so the same label would mean different classes: '
            f'{listed}{" and so on" if len(wrong) > 5 else ""}. {step}. '
            'To skip this check, set default_hooks.check_classes=None.'
        )


def _only_in(names: Sequence[str], trained: Sequence[str]) -> str:
    """List the classes that a set and a checkpoint do not share, if any."""
    if not names or not trained:
        return ''
    said = [
        f'{what}: {list_names(only)}'
        for what, only in (
            ('only in the set', [n for n in names if n not in trained]),
            ('only trained', [n for n in trained if n not in names]),
        )
        if only
    ]
    return f'{"; ".join(said)}; ' if said else ''
