"""A hook that makes metrics cover every image of a set."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmclip.engine.checks.parts import parts_of
from mmclip.registry import HOOKS


@HOOKS.register_module()
class EveryTestImageHook(Hook):
    """A hook that stops an evaluation if its pipeline skips an image.

    mmengine's data sets replace an image that
    ``mmclip.LoadImage(on_error='skip')`` or mmcv's
    ``LoadImageFromFile(ignore_empty=True)`` skips by a random one, unless they
    have ``test_mode=True``. This hook sets it.
    """

    def before_val(self, runner: Runner) -> None:
        """Set ``test_mode`` in the validation set."""
        _use_test_mode(runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Set ``test_mode`` in the test set."""
        _use_test_mode(runner.test_dataloader)


def _use_test_mode(loader: DataLoader) -> None:
    for part in parts_of(loader.dataset):  # KFoldDataset's means the fold
        part.dataset.test_mode = True
