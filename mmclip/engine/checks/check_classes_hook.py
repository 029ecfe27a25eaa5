"""Classes that are the same in every split, in the head, in the weights."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.datasets import KFoldDataset

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
    check_range,
    count_labels,
    lists_of,
    refuse_stray,
)
from mmclip.engine.checks.metrics import check_metrics
from mmclip.engine.checks.parts import Part, parts_of
from mmclip.errors import DataError
from mmclip.registry import HOOKS


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """Compare the class folders of the splits with one another and the head.

    mmpretrain numbers the folders of each split by themselves: one that is
    missing in one split shifts all labels after it, without a word. So does
    one that was not there when the weights were trained, a hidden folder, or
    a list of names in another order than the folders. Images that mmpretrain
    leaves out for their suffix are named too.
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
            DataError: Naming the classes that differ, are empty, or do not
                fit the head, the weights or the metric.
        """
        self._is_checked = True
        splits = {'train': runner.train_dataloader.dataset}
        if runner.val_loop is not None:
            splits['val'] = runner.val_dataloader.dataset
            check_metrics('val', splits['val'], runner.val_evaluator)
        model = _find_model(runner)
        check_once(lambda: self._check_splits(splits, model))

    def before_val(self, runner: Runner) -> None:
        """Check the validation set, unless training did.

        Raises:
            DataError: As before testing.
        """
        if not self._is_checked:
            self._is_checked = True
            dataset, model = runner.val_dataloader.dataset, _find_model(runner)
            check_metrics('val', dataset, runner.val_evaluator)
            check_once(lambda: self._check_one('val', dataset, model))

    def before_test(self, runner: Runner) -> None:
        """Check the head against the test set, which may leave classes out.

        Raises:
            DataError: If they have other numbers of classes, or number them
                in another way, or the metric is not that of the test set.
        """
        dataset, model = runner.test_dataloader.dataset, _find_model(runner)
        check_metrics('test', dataset, runner.test_evaluator)
        check_once(lambda: self._check_one('test', dataset, model))

    def _check_splits(self, splits: dict[str, Any], model: Any) -> None:
        counts = {
            split: count_labels(list(parts_of(dataset)), split)
            for split, dataset in splits.items()
        }
        classes = {split: _names(data) for split, data in splits.items()}
        _compare(classes)
        # Names that were given say nothing of which folder is which.
        _compare(
            {
                split: sorted(
                    {n for part in parts_of(data) for n in part.folders()}
                )
                for split, data in splits.items()
            }
        )
        # A list of files names no classes, but the other split may.
        size = max(map(len, classes.values()))
        for split, dataset in splits.items():
            found = counts[split]
            if found is not None:
                _check_images(split, dataset, found)
                self._check_numbers(split, dataset, found, size, model)

    def _check_one(self, split: str, dataset: Any, model: Any) -> None:
        counts = count_labels(list(parts_of(dataset)), split)
        # Without names, the largest label is all that a list says.
        size = len(_names(dataset)) or _num_classes(model)
        if counts is not None:
            self._check_numbers(split, dataset, counts, size, model)

    def _check_numbers(
        self,
        split: str,
        dataset: Any,
        counts: Counter[int],
        size: int,
        model: Any,
    ) -> None:
        """Labels fit the head, and mean what they meant in training."""
        parts, names = list(parts_of(dataset)), _names(dataset)
        num_classes = _num_classes(model)
        check_range(split, parts, counts, names, num_classes)
        captions = getattr(model, 'classes', None)  # of FLYP
        expected = max(size, max(counts, default=0) + 1)
        if num_classes and expected != num_classes:
            step = f'set model.head.num_classes={expected}, or '
            if captions:
                step = f'set model.classes to the {expected} names, or '
            if split == 'test' or self._trained_classes:  # it is trained
                step = _only_in(names, self._trained_classes)
            refuse_stray(split, parts, counts, names, num_classes)
            raise DataError(
                f'The {split} set has {expected} classes, and the head '
                f'{num_classes}: {step}give the set the classes that '
                'the head has (metainfo.classes, where a list of files '
                'leaves some out).'
            )
        for part in parts:
            _check_folders(part)
        trained = self._trained_classes if num_classes else ()  # else unused
        for others, whose in (
            (trained, 'the checkpoint'),
            (captions or (), 'model.classes'),
        ):
            for part in parts:
                folders = part.folders()
                step = (
                    'Class folders are numbered by the alphabet; '
                    + _only_in(folders, others)
                    + f'the names of {whose} must be in the order of the '
                    f'folders: {list_names(folders)}'
                )
                _check_same(folders, others, split, whose, step)
            _check_same(names, others, split, whose)


def _compare(classes: dict[str, list[str]]) -> None:
    train, val = classes.get('train'), classes.get('val')
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
        'The training and the validation set have other classes, so that '
        f'labels would not mean the same '
        f'({"; ".join(differences) or "the same in another order"}). Give '
        'both the same class folders.'
    )


def _check_images(split: str, dataset: Any, counts: Counter[int]) -> None:
    """Each class has an image, unless somebody chose so."""
    empty = [name for i, name in enumerate(_names(dataset)) if not counts[i]]
    if not empty:
        return
    unshuffled = isinstance(dataset, KFoldDataset) and dataset.seed is None
    if unshuffled and not dataset.test_mode:
        raise DataError(
            f'The {split} set has no image of {", ".join(empty[:10])}: a '
            'KFoldDataset without a seed takes folds of whole classes. Set '
            'its seed, the same for training and validation.'
        )
    if not any(part.is_chosen for part in parts_of(dataset)):
        raise DataError(
            f'The {split} set has no image of {", ".join(empty[:10])}.'
        )


def _check_folders(part: Part) -> None:
    """Names that were given are in the order of the folders."""
    folders, names = part.folders(), _names(part.dataset)
    if folders and len(names) == len(folders) and names != folders:
        check_order(names, folders, 'metainfo.classes')
        warn_of_numbers(names, folders)
    where = lists_of([part]).removeprefix(' in ')
    check_listed(names, part.listed_folders(), where)


def _check_same(
    names: Sequence[str],
    others: Sequence[str],
    split: str,
    whose: str,
    step: str = 'Give both the same classes in the same order',
) -> None:
    wrong = misplaced(names, others)
    if wrong:
        listed = ', '.join(
            f'{name!r} is number {i} and {j}' for name, i, j in wrong[:5]
        )
        raise DataError(
            f'The classes of the {split} set and of {whose} are numbered '
            f'differently, so that labels would not mean the same: {listed}'
            f'{" and so on" if len(wrong) > 5 else ""}. {step}. '
            'default_hooks.check_classes=None leaves this check out.'
        )


def _only_in(names: Sequence[str], trained: Sequence[str]) -> str:
    """Which classes a set and a checkpoint do not share, if any."""
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


def _names(dataset: Any) -> list[str]:
    metainfo = getattr(dataset, 'metainfo', None) or {}
    return list(metainfo.get('classes') or ())


def _find_model(runner: Runner) -> Any:
    """The model without what several processes or augmentation wrap it in."""
    model: Any = runner.model
    while not hasattr(model, 'head') and hasattr(model, 'module'):
        model = model.module
    return model


def _num_classes(model: Any) -> int:
    return getattr(getattr(model, 'head', None), 'num_classes', None) or 0
