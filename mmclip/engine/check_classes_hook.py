"""Classes that are the same in every split, in the head, in the weights."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmclip.checkpoint.compatibility import misplaced_classes
from mmclip.registry import HOOKS

# What data sets call a choice of some of their images.
CHOOSING = ('ann_file', 'image_set_path', '_indices')


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """Compare the class folders of the splits with one another and the head.

    mmpretrain numbers the folders of each split by themselves: one that is
    missing in one split shifts all labels after it, without a word. So does
    one that was not there when the weights were trained, or a list of names
    for captions in another order.
    """

    def __init__(self) -> None:
        self._trained_classes: Sequence[str] = ()

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the classes that the checkpoint names."""
        meta = checkpoint.get('meta') or {}
        data = meta.get('dataset_meta') or {}
        self._trained_classes = data.get('classes') or ()

    def before_train(self, runner: Runner) -> None:
        """Check the training and the validation set.

        Raises:
            ValueError: Naming the classes that differ, are empty, or do not
                fit the head or the weights.
        """
        if not is_main_process():
            return
        splits = {'train': runner.train_dataloader.dataset}
        if runner.val_loop is not None:
            splits['val'] = runner.val_dataloader.dataset
        classes = {split: _names(data) for split, data in splits.items()}
        self._compare(classes)
        # Names that were given say nothing of which folder is which.
        self._compare(
            {
                split: sorted(
                    {
                        folder
                        for part in _parts(dataset)
                        for folder in getattr(part, 'folder_to_idx', None)
                        or ()
                    }
                )
                for split, dataset in splits.items()
            }
        )
        # A list of files names no classes, but the other split may.
        size = max(map(len, classes.values()))
        for split, dataset in splits.items():
            counts = _count_labels(dataset)
            if counts is not None:
                self._check_images(split, dataset, counts)
                self._check_numbers(
                    split, dataset, counts, size, _find_model(runner)
                )

    def before_test(self, runner: Runner) -> None:
        """Check the head against the test set, which may leave classes out.

        Raises:
            ValueError: If they have other numbers of classes, or number them
                in another way.
        """
        if not is_main_process():
            return
        dataset, model = runner.test_dataloader.dataset, _find_model(runner)
        # Without names, the largest label is all that a list says.
        size = len(_names(dataset)) or _num_classes(model)
        counts = _count_labels(dataset)
        if counts is not None:
            self._check_numbers('test', dataset, counts, size, model)

    def _compare(self, classes: dict[str, list[str]]) -> None:
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
        raise ValueError(
            'The training and the validation set have other classes, so that '
            f'labels would not mean the same '
            f'({"; ".join(differences) or "the same in another order"}). Give '
            'both the same class folders.'
        )

    def _check_images(
        self, split: str, dataset: Any, counts: Counter[int]
    ) -> None:
        """Each class has an image, unless a list leaves it out on purpose."""
        chosen = any(
            getattr(part, name, None)
            for part in _parts(dataset)
            for name in CHOOSING
        )
        names = enumerate(_names(dataset))
        empty = [name for i, name in names if not counts[i]]
        if empty and not chosen:
            raise ValueError(
                f'The {split} set has no image of {", ".join(empty[:10])}.'
            )

    def _check_numbers(
        self,
        split: str,
        dataset: Any,
        counts: Counter[int],
        size: int,
        model: Any,
    ) -> None:
        """Labels fit the head, and mean what they meant in training."""
        if min(counts, default=0) < 0:
            raise ValueError(
                f'{counts[min(counts)]} images of the {split} set have the '
                f'label {min(counts)}; labels begin at 0.'
            )
        expected = max(size, max(counts, default=0) + 1)
        num_classes = _num_classes(model)
        named = getattr(model, 'classes', None)  # the captions' of FLYP
        if num_classes and expected != num_classes:
            change = f'model.head.num_classes={expected}'
            if named:
                change = f'model.classes to the {expected} names'
            raise ValueError(
                f'The {split} set has {expected} classes, and the head '
                f'{num_classes}: set {change}, or give the set the classes '
                'that the head has (metainfo.classes, where a list of files '
                'leaves some out).'
            )
        names = _names(dataset)
        if num_classes:  # else the labels are not used
            _check_order(names, self._trained_classes, split, 'the checkpoint')
        _check_order(names, named or (), split, 'model.classes')


def _check_order(
    names: Sequence[str], others: Sequence[str], split: str, whose: str
) -> None:
    misplaced = misplaced_classes(names, others)
    if misplaced:
        listed = ', '.join(
            f'{name!r} is number {i} and {j}' for name, i, j in misplaced[:5]
        )
        raise ValueError(
            f'The classes of the {split} set and of {whose} are numbered '
            f'differently, so that labels would not mean the same: {listed}'
            f'{" and so on" if len(misplaced) > 5 else ""}. Give both the '
            'same classes in the same order; default_hooks.check_classes=None '
            'leaves this check out.'
        )


def _names(dataset: Any) -> list[str]:
    return list(getattr(dataset, 'metainfo', {}).get('classes') or ())


def _parts(dataset: Any) -> Iterator[Any]:
    """The data sets inside ConcatDataset, RepeatDataset and the like."""
    inner = getattr(dataset, 'datasets', None) or [
        getattr(dataset, 'dataset', None)
    ]
    if inner == [None]:
        yield dataset
    else:
        for part in inner:
            yield from _parts(part)


def _count_labels(dataset: Any) -> Counter[int] | None:
    """Images by label, of which an image may have several.

    None if the data set has no labels, or does not say which.
    """
    counts: Counter[int] = Counter()
    for part in _parts(dataset):
        labelled = hasattr(part, 'get_gt_labels')  # as mmpretrain's are
        if not labelled or not getattr(part, 'with_label', True):
            return None
        counts.update(
            int(label)
            for i in range(len(part))
            for label in part.get_cat_ids(i)
        )
    return counts


def _find_model(runner: Runner) -> Any:
    """The model without what several processes or augmentation wrap it in."""
    model: Any = runner.model
    while not hasattr(model, 'head') and hasattr(model, 'module'):
        model = model.module
    return model


def _num_classes(model: Any) -> int:
    return getattr(getattr(model, 'head', None), 'num_classes', None) or 0
