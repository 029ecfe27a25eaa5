"""No step on a loss that is not a number."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mmclip.registry import HOOKS


class NonFiniteLossError(RuntimeError):
    """A loss was NaN or infinite; the weights were not changed by it."""


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop before a NaN or infinite loss reaches the weights.

    mmengine trains on with it to the end. The error names the iteration and
    the images; the last checkpoint is that of a good model.
    """

    def before_train(self, runner: Runner) -> None:
        """Put a check before the optimizer's step."""
        optim_wrapper: OptimWrapper = runner.optim_wrapper
        update_params = optim_wrapper.update_params

        def checked(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            if not torch.isfinite(loss).all():
                raise NonFiniteLossError(self._message(runner, loss))
            update_params(loss, *args, **kwargs)

        optim_wrapper.update_params = checked

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Remember the batch, to be able to name it."""
        self._batch = data_batch

    def _message(self, runner: Runner, loss: Tensor) -> str:
        samples = (self._batch or {}).get('data_samples') or []
        images = [getattr(sample, 'img_path', '?') for sample in samples]
        return (
            f'The loss is {loss.tolist()} at epoch {runner.epoch + 1}, '
            f'iteration {runner.iter + 1}; the weights are those before it. '
            'Lower the learning rate, or look at the images of the batch: '
            f'{", ".join(images)}'
        )
