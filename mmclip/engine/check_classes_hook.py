"""Classes that are the same in every split, and in the head."""

from collections import Counter
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmclip.registry import HOOKS

# What data sets call a choice of some of their images.
CHOOSING = ('ann_file', 'image_set_path', '_indices')


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """Compare the class folders of the splits with one another and the head.

    mmpretrain numbers the folders of each split by themselves: one that is
    missing in one split shifts all labels after it, without a word.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the training and the validation set.

        Raises:
            ValueError: Naming the classes that differ, are empty, or do not
                fit the head.
        """
        if not is_main_process():
            return
        splits = {'train': runner.train_dataloader.dataset}
        if runner.val_loop is not None:
            splits['val'] = runner.val_dataloader.dataset
        classes = {
            split: list(dataset.metainfo.get('classes') or ())
            for split, dataset in splits.items()
            if hasattr(dataset, 'metainfo')
        }
        self._compare(classes)
        # Names that were given say nothing of which folder is which.
        self._compare(
            {
                split: sorted(getattr(dataset, 'folder_to_idx', None) or ())
                for split, dataset in splits.items()
            }
        )
        for split, names in classes.items():
            self._check(split, splits[split], names, _num_classes(runner))

    def before_test(self, runner: Runner) -> None:
        """Check the head against the test set, which may leave classes out.

        Raises:
            ValueError: If they have other numbers of classes.
        """
        dataset = runner.test_dataloader.dataset
        counts = _count_labels(dataset) if is_main_process() else None
        if counts is None:
            return
        # Without names, the largest label is all that a list says.
        num_classes = _num_classes(runner)
        size = len(dataset.metainfo.get('classes') or ()) or num_classes
        self._check_head('test', size, counts, num_classes)

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
            f'labels would not mean the same ({"; ".join(differences)}). Add '
            'the missing class folders, or set metainfo.classes.'
        )

    def _check(
        self, split: str, dataset: Any, names: list[str], num_classes: int
    ) -> None:
        counts = _count_labels(dataset)
        if counts is None:
            return
        empty = [name for i, name in enumerate(names) if not counts[i]]
        # A list of files, or of indices, may leave classes out on purpose.
        chosen = any(getattr(dataset, name, None) for name in CHOOSING)
        if empty and not chosen:
            raise ValueError(
                f'The {split} set has no image of {", ".join(empty[:10])}.'
            )
        self._check_head(split, len(names), counts, num_classes)

    def _check_head(
        self, split: str, size: int, counts: Counter[int], num_classes: int
    ) -> None:
        expected = max(size, max(counts, default=0) + 1)
        if num_classes and expected != num_classes:
            raise ValueError(
                f'The {split} set has {expected} classes, and the head '
                f'{num_classes}: set model.head.num_classes={expected}, or '
                'give the set the classes that the head has.'
            )


def _count_labels(dataset: Any) -> Counter[int] | None:
    """Images by label, of which an image may have several.

    None if the data set has no labels, or does not say which.
    """
    labelled = hasattr(dataset, 'get_gt_labels')  # as mmpretrain's are
    if not labelled or not getattr(dataset, 'with_label', True):
        return None
    return Counter(
        int(label)
        for i in range(len(dataset))
        for label in dataset.get_cat_ids(i)
    )


def _num_classes(runner: Runner) -> int:
    model: Any = runner.model
    # Of several processes, and of test-time augmentation.
    while not hasattr(model, 'head') and hasattr(model, 'module'):
        model = model.module
    return getattr(getattr(model, 'head', None), 'num_classes', None) or 0
