"""A hook that saves a checkpoint when a signal ends a run."""

import signal
import threading
import time
from multiprocessing.util import register_after_fork
from types import FrameType
from typing import Any, NoReturn

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import Runner
from torch.distributed.tensor import DTensor

from mmclip.engine.optim.steps import has_gathered
from mmclip.engine.resume.signals import (
    STOPPING,
    Stopped,
    is_heard,
    obey_the_parent_alone,
)
from mmclip.registry import HOOKS

# Further signals within these seconds count as the same: `timeout` signals
# the process and its group, and Slurm's Ctrl-C is followed by SIGTERM.
SAME = 1.0


@HOOKS.register_module()
class InterruptHook(Hook):
    """A hook that writes ``iter_N.pth`` and stops on a signal.

    The signals are Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP. The current optimizer
    step is finished first, with all iterations that it accumulates; a
    validation is abandoned. The file goes to the checkpoint folder,
    ``--resume`` continues from it, and the exit code is 128 + the number of
    the signal. Several processes check after each iteration whether any of
    them got a signal, so that all stop together.

    A second signal, a second or more later, acts as without this hook. Forked
    data workers ignore all of them.
    """

    priority = 'LOWEST'
    _told = 0  # the number of the first signal
    _trains = False
    _common_batches = 0  # batches of a validation that all processes have
    _weights: torch.Tensor

    def __init__(self) -> None:
        # In loops without epochs, workers start before any hook is called.
        register_after_fork(self, obey_the_parent_alone)

    def before_train(self, runner: Runner) -> None:
        """Take over the signals."""
        self._told = 0
        self._trains = True
        self._handlers: dict[signal.Signals, Any] = {}
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning(
                'Only the main thread of a program gets signals, and this is '
                'another one: no signal will save a checkpoint.'
            )
            return
        for number in filter(is_heard, STOPPING):
            self._handlers[number] = signal.signal(number, self._note)

    def after_train_iter(
        self, runner: Runner, *_: object, **__: object
    ) -> None:
        """Stop at the end of a step, if a signal came.

        Raises:
            Stopped: After the checkpoint is written.
        """
        if number := self._told_anywhere(runner):
            self._stop(runner, runner.iter + 1, number)

    def before_val(self, runner: Runner) -> None:
        """Remember the weights, which averages may replace."""
        if self._trains:
            batches = torch.tensor(
                len(getattr(runner.val_loop, 'dataloader', ()))
            )
            all_reduce(batches, 'min')
            self._common_batches = int(batches)
            self._weights = _fingerprint(runner)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, *_: object, **__: object
    ) -> None:
        """Stop as in :meth:`after_train_iter`, with the trained weights."""
        if not self._trains or batch_idx >= self._common_batches:
            return
        number = self._told_anywhere(runner)
        if number and self._restore(runner):
            self._stop(runner, runner.iter, number)

    def after_val(self, runner: Runner) -> None:
        """Stop after a validation, as in :meth:`after_train_iter`."""
        if self._trains and (number := self._told_anywhere(runner)):
            self._stop(runner, runner.iter, number)

    def after_train(self, runner: Runner) -> None:
        """Restore the signal handlers."""
        self._trains = False
        self._give_back()

    def _stop(self, runner: Runner, done: int, number: int) -> NoReturn:
        name = signal.Signals(number).name
        runner.logger.info(f'Interrupted by {name}; writing iter_{done}.pth.')
        folder = _checkpoint_folder(runner)
        runner.save_checkpoint(
            folder,
            f'iter_{done}.pth',
            meta=dict(epoch=runner.epoch, iter=done),
            by_epoch=False,
        )
        barrier()  # an early exit would kill the process that writes
        self.after_train(runner)
        raise Stopped(number, f'{folder}/iter_{done}.pth')

    def _told_anywhere(self, runner: Runner) -> int:
        """Return the signal that any process got, if between steps."""
        if has_gathered(runner):
            return 0
        told = torch.tensor(self._told)
        all_reduce(told, 'max')
        return int(told)

    def _restore(self, runner: Runner) -> bool:
        """Put the trained weights back into the model.

        Returns:
            bool: Whether they are in it. If another hook has replaced them,
                the validation has to finish first.
        """
        if self._differ(runner):
            averages = [h for h in runner.hooks if isinstance(h, EMAHook)]
            for hook in averages:
                hook._swap_ema_parameters()
            if self._differ(runner):
                for hook in reversed(averages):
                    hook._swap_ema_parameters()
                return False
        return True

    def _differ(self, runner: Runner) -> bool:
        differ = torch.tensor(
            int(not torch.equal(_fingerprint(runner), self._weights))
        )
        all_reduce(differ, 'max')  # each may have a share of the weights
        return bool(differ)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._told:
            self._told, self._when = number, now
        elif now - self._when >= SAME:
            self._give_back()
            signal.raise_signal(number)

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def _fingerprint(runner: Runner) -> torch.Tensor:
    """Compute two numbers per parameter that identify the weights."""
    numbers = []
    for param in runner.model.parameters():
        values = param.detach()
        if isinstance(values, DTensor):
            values = values.to_local()
        if values.device.type == 'mps':  # has no float64
            values = values.cpu()
        values = values.double()
        numbers += [values.sum(), values.square().sum()]
    return torch.stack(numbers)


def _checkpoint_folder(runner: Runner) -> str:
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            return hook.out_dir
    return runner.work_dir
