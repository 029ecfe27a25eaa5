"""Checks of data sets that one process makes for all processes."""

from collections.abc import Callable
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmclip.errors import DataError


class DataSetHook(Hook):
    """A hook that checks data sets before they are first used."""

    def __init__(self) -> None:
        self._checked: list[Any] = []  # data sets

    def before_train(self, runner: Runner) -> None:
        """Check the training and the validation set."""
        splits = {'train': runner.train_dataloader.dataset}
        if runner.val_loop is not None:
            splits['val'] = runner.val_dataloader.dataset
        self._check_new(runner, splits)

    def before_val(self, runner: Runner) -> None:
        """Check the validation set, unless training did."""
        self._check_new(runner, dict(val=runner.val_dataloader.dataset))

    def before_test(self, runner: Runner) -> None:
        """Check the test set."""
        self._check_new(runner, dict(test=runner.test_dataloader.dataset))

    def check(self, runner: Runner, splits: dict[str, Any]) -> None:
        """Check data sets by split, in the first process."""
        raise NotImplementedError

    def _check_new(self, runner: Runner, splits: dict[str, Any]) -> None:
        known = set(map(id, self._checked))
        if not known.issuperset(map(id, splits.values())):
            self._checked += splits.values()
            check_once(lambda: self.check(runner, splits))


def check_once(check: Callable[[], None]) -> None:
    """Run a check in the first process, and stop all processes if it fails.

    Raises:
        DataError: In the other processes, with the first one's message.
    """
    failure: Exception | None = None
    if is_main_process():
        try:
            check()
        except Exception as error:
            failure = error
    message = [str(failure) if failure else None]
    broadcast_object_list(message)
    if failure is not None:
        raise failure
    if message[0] is not None:
        raise DataError(message[0])
