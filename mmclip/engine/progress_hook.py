"""A hook that shows progress where the log does not go to the screen."""

import logging
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from mmclip.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """A hook for a short screen: a progress bar, and the results of a test.

    It does something only if ``log_level`` keeps the log from the screen, as
    ``'WARNING'`` does. The bar is for terminals.
    """

    priority = 'VERY_LOW'
    _bar: Any = None
    _accuracy = ''

    def before_train(self, runner: Runner) -> None:
        """Begin the bar."""
        self._bar = tqdm(
            total=runner.max_iters,
            initial=runner.iter,
            unit='step',
            disable=None if _is_short(runner) else True,
        )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Go on by a step."""
        if not self._bar.disable:
            loss = float((outputs or {}).get('loss', float('nan')))
            self._bar.set_postfix_str(
                f'loss {loss:.3f}{self._accuracy}', refresh=False
            )
        self._bar.update()

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Show what the validation found beside the loss."""
        self._accuracy = f', {_said(metrics)}'

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Print what the test found."""
        if _is_short(runner):
            print(_said(metrics))

    def after_train(self, runner: Runner) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def close_progress(runner: Runner) -> None:
    """End the bar of a run that was stopped."""
    for hook in runner.hooks:
        if isinstance(hook, ProgressHook):
            hook.after_train(runner)


def _is_short(runner: Runner) -> bool:
    """Tell whether the screen of this process lacks the log."""
    return is_main_process() and all(
        handler.level > logging.INFO
        for handler in runner.logger.handlers
        if type(handler) is logging.StreamHandler
    )


def _said(metrics: dict[str, Any] | None) -> str:
    return ', '.join(
        f'{name} {value:.2f}'
        for name, value in (metrics or {}).items()
        if isinstance(value, int | float)
    )
