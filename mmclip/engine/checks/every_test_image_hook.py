"""A metric over all images of the test set, or none."""

from collections.abc import Iterator
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmclip.datasets.load_image import LoadImage
from mmclip.errors import DataError
from mmclip.registry import HOOKS

# Where data sets and transforms of OpenMMLab hold others.
HOLDERS = ('dataset', 'datasets', 'pipeline', 'transforms', 'subroutines')


@HOOKS.register_module()
class EveryTestImageHook(Hook):
    """Refuse to evaluate with a loader that skips what it cannot read.

    ``mmclip.LoadImage(on_error='skip')`` and mmcv's
    ``LoadImageFromFile(ignore_empty=True)`` do so. mmpretrain's data sets
    replace what a pipeline skips by another image drawn at random, in
    validation and in testing too, without a word.
    """

    def before_train(self, runner: Runner) -> None:
        """Refuse before training, not after its first epoch."""
        if runner.val_loop is not None:
            self._check('val', runner.val_dataloader)

    def before_val(self, runner: Runner) -> None:
        """Check the validation pipeline."""
        self._check('val', runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Check the test pipeline.

        Raises:
            DataError: If it may skip images.
        """
        self._check('test', runner.test_dataloader)

    def _check(self, split: str, loader: DataLoader) -> None:
        for load in image_loaders(loader.dataset):
            if isinstance(load, LoadImage):
                skips = load.on_error == 'skip'
                found, wanted = "on_error='skip'", "on_error='raise'"
            else:
                skips = load.ignore_empty
                found, wanted = 'ignore_empty=True', 'ignore_empty=False'
            if skips:
                raise DataError(
                    f'The pipeline of {split}_dataloader has {found} in '
                    f'{type(load).__name__}, so that its metric might be of '
                    f'other images than those of the set: set {wanted} there, '
                    'and repair or remove the files that it names.'
                )


def image_loaders(holder: Any) -> Iterator[LoadImage | LoadImageFromFile]:
    """All that load images in a data set, pipeline or transform."""
    if isinstance(holder, LoadImage | LoadImageFromFile):
        yield holder
    elif isinstance(holder, list | tuple):
        for item in holder:
            yield from image_loaders(item)
    else:
        for name in HOLDERS:
            yield from image_loaders(getattr(holder, name, ()))
