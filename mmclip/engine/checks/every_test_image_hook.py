"""A metric over all images of a set, or none."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmclip.engine.checks.parts import parts_of
from mmclip.registry import HOOKS


@HOOKS.register_module()
class EveryTestImageHook(Hook):
    """Stop an evaluation whose pipeline leaves out an image.

    mmengine's data sets take another image, drawn at random, in the place of
    one that ``mmclip.LoadImage(on_error='skip')`` or mmcv's
    ``LoadImageFromFile(ignore_empty=True)`` leaves out, unless they have
    ``test_mode=True``. This hook sets it.
    """

    def before_val(self, runner: Runner) -> None:
        """Set it in the validation set."""
        _use_test_mode(runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Set it in the test set."""
        _use_test_mode(runner.test_dataloader)


def _use_test_mode(loader: DataLoader) -> None:
    for part in parts_of(loader.dataset):  # of KFoldDataset, it is the fold
        part.dataset.test_mode = True
