"""Runs of millions of iterations whose logs do not slow them down."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmclip.registry import HOOKS


@HOOKS.register_module()
class ShortHistoryHook(Hook):
    """Keep only the newest values of each scalar that is logged.

    mmengine keeps a million of each, copies them all at each iteration, and
    writes them into each checkpoint. Here there are as many as an epoch of
    training or validation has iterations, and at least ``max_length``; so
    means over a window or an epoch are as before, and those over a whole run
    (``window_size='global'``) are over these.

    Args:
        max_length (int): How many at least. Defaults to 10,000.
    """

    def __init__(self, max_length: int = 10_000):
        self.max_length = max_length

    def after_train_iter(
        self, runner: Runner, *_: object, **__: object
    ) -> None:
        """Limit the histories, now and then new ones, too."""
        if self.every_n_train_iters(runner, 100):
            self._limit(runner)

    def after_val_epoch(
        self, runner: Runner, metrics: dict | None = None
    ) -> None:
        """Limit the histories of validation."""
        self._limit(runner)

    def _limit(self, runner: Runner) -> None:
        loops = (runner._train_loop, runner._val_loop)
        lengths = [
            len(loop.dataloader)
            for loop in loops
            if hasattr(loop, 'dataloader')
        ]
        most = max([self.max_length, *lengths])
        for history in runner.message_hub.log_scalars.values():
            history.max_length = most
