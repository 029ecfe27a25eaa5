"""Classes that are the same in every split, and in the head."""

from collections import Counter
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmclip.registry import HOOKS


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
        if not hasattr(dataset, 'get_gt_labels'):
            return
        counts = Counter(map(int, dataset.get_gt_labels()))
        empty = [name for i, name in enumerate(names) if not counts[i]]
        # A list of files, or of indices, may leave classes out on purpose.
        chosen = getattr(dataset, 'ann_file', '') or getattr(
            dataset, '_indices', None
        )
        if empty and not chosen:
            raise ValueError(
                f'The {split} set has no image of {", ".join(empty[:10])}.'
            )
        largest = max(counts, default=0)
        expected = max(len(names), largest + 1)
        if num_classes and expected != num_classes:
            raise ValueError(
                f'The {split} set has {expected} classes, and the head '
                f'{num_classes}: set model.head.num_classes={expected}.'
            )


def _num_classes(runner: Runner) -> int:
    model: Any = runner.model
    model = model.module if is_model_wrapper(model) else model
    return getattr(getattr(model, 'head', None), 'num_classes', None) or 0
