"""Ctrl-C at the end of an iteration, with a checkpoint."""

import signal
from types import FrameType

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmclip.registry import HOOKS


@HOOKS.register_module()
class InterruptHook(Hook):
    """On Ctrl-C finish the iteration, write ``iter_N.pth``, then stop.

    ``--resume`` goes on from there. A second Ctrl-C stops at once. With
    several processes, which would stop at different iterations, Ctrl-C stops
    at once too.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Take over the signal."""
        self._interrupted = False
        if get_world_size() == 1:
            self._handler = signal.signal(signal.SIGINT, self._note)

    def after_train_iter(
        self, runner: Runner, *_: object, **__: object
    ) -> None:
        """Stop if Ctrl-C was pressed.

        Raises:
            KeyboardInterrupt: After the checkpoint is written.
        """
        if not self._interrupted:
            return
        done = runner.iter + 1
        runner.logger.info(f'Interrupted; writing iter_{done}.pth.')
        runner.save_checkpoint(
            runner.work_dir,
            f'iter_{done}.pth',
            meta=dict(epoch=runner.epoch, iter=done),
            by_epoch=False,
        )
        raise KeyboardInterrupt

    def after_train(self, runner: Runner) -> None:
        """Give the signal back."""
        if get_world_size() == 1:
            signal.signal(signal.SIGINT, self._handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        signal.signal(signal.SIGINT, self._handler)
