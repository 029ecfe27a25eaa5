"""Ctrl-C at the end of an iteration, with a checkpoint."""

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from mmclip.engine.accumulated_gradients import share_gradients
from mmclip.registry import HOOKS


@HOOKS.register_module()
class InterruptHook(Hook):
    """On Ctrl-C finish the iteration, write ``iter_N.pth``, then stop.

    It stands where the checkpoint hook writes.

    ``--resume`` goes on from there. Several processes agree at each iteration
    whether one of them was interrupted, so that all stop at the same. A
    validation is finished first, since averaged weights may stand in for the
    model's. A second Ctrl-C stops a single process at once; torchrun, which
    passes each on to its processes and so doubles it, kills them after 30
    seconds, and after half an hour where tools/launch.py runs it.
    """

    priority = 'LOWEST'
    _interrupted = _told = False

    def before_train(self, runner: Runner) -> None:
        """Take over the signal, also for data workers that are forked."""
        self._interrupted = self._told = False
        self._handler = signal.signal(signal.SIGINT, self._note)

    def after_train_iter(
        self, runner: Runner, *_: object, **__: object
    ) -> None:
        """Stop if Ctrl-C was pressed.

        Raises:
            KeyboardInterrupt: After the checkpoint is written.
        """
        if self._somewhere():
            self._stop(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Say why nothing happens yet: other weights may be in the model."""
        if self._interrupted and not self._told:
            self._told = True
            runner.logger.info('Interrupted; validation is finished first.')

    def after_val(self, runner: Runner) -> None:
        """Stop after validation; errors as in :meth:`after_train_iter`."""
        if self._somewhere():
            self._stop(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Give the signal back."""
        signal.signal(signal.SIGINT, self._handler)

    def _stop(self, runner: Runner, done: int) -> NoReturn:
        runner.logger.info(f'Interrupted; writing iter_{done}.pth.')
        share_gradients(runner)
        runner.save_checkpoint(
            _checkpoint_folder(runner),
            f'iter_{done}.pth',
            meta=dict(epoch=runner.epoch, iter=done),
            by_epoch=False,
        )
        barrier()  # the end of one process would end the one that writes
        signal.signal(signal.SIGINT, self._handler)
        raise KeyboardInterrupt

    def _somewhere(self) -> bool:
        if get_world_size() == 1:
            return self._interrupted
        interrupted = torch.tensor(int(self._interrupted))
        all_reduce(interrupted, 'max')
        return bool(interrupted)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        if get_world_size() == 1:
            signal.signal(signal.SIGINT, self._handler)


def keep_interrupts_from_workers() -> None:
    """Let data workers, which are forked from this process, ignore Ctrl-C.

    Those of loops without epochs start before any hook could say so, and a
    run whose workers are gone can write no checkpoint. And while mmengine
    writes a config, it would take Ctrl-C for a fault in it.
    """
    main = os.getpid()
    handler = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != main or not callable(handler):
            return
        if _writes_config(frame):
            again = threading.Timer(0.1, os.kill, (main, number))
            again.daemon = True
            again.start()
        else:
            handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)


def _writes_config(frame: FrameType | None) -> bool:
    getter = Config.pretty_text.fget
    while frame is not None and frame.f_code is not getter.__code__:
        frame = frame.f_back
    return frame is not None


def _checkpoint_folder(runner: Runner) -> str:
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            return hook.out_dir
    return runner.work_dir
