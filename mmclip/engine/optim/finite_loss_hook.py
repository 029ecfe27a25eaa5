"""A hook that stops training at a loss that is not finite."""

from functools import wraps
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.distributed.tensor import DTensor

from mmclip.engine.optim.steps import has_gathered
from mmclip.engine.resume.run_settings import wrappers_by_key
from mmclip.errors import NonFiniteLossError, some
from mmclip.registry import HOOKS

MOST_IMAGES = 256  # named in an error
# Consecutive steps that a loss scaler may skip: it starts at 2**16.
MOST_SKIPPED = 32


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """A hook that stops before a NaN or infinite loss reaches the weights.

    mmengine would train on to the end. Gradients are checked too, since a
    finite loss may have gradients that are not. A loss scaler skips such
    steps; the run ends after too many in a row. The error names the iteration
    and the images; the last checkpoint is of a good model.
    """

    _images: dict[int, list[str]]  # images of the step, by iteration

    def before_train(self, runner: Runner) -> None:
        """Add a check before the step of each optimizer."""
        self._images = {}
        for optim_wrapper in wrappers_by_key(runner).values():
            self._guard(optim_wrapper, runner)

    def _guard(self, optim_wrapper: OptimWrapper, runner: Runner) -> None:
        update_params, step = optim_wrapper.update_params, optim_wrapper.step
        most = MOST_SKIPPED * isinstance(optim_wrapper, AmpOptimWrapper)
        skipped = 0

        def checked(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            if not torch.isfinite(loss).all():
                what = f'The loss is {loss.tolist()}'
                images = {runner.iter: self._images[runner.iter]}
                raise NonFiniteLossError(_message(runner, what, images))
            update_params(loss, *args, **kwargs)

        # Keeps the attributes that schedulers set on it.
        @wraps(step)
        def checked_step(**kwargs: Any) -> None:
            nonlocal skipped
            gradients = [
                parameter.grad
                for group in optim_wrapper.param_groups
                for parameter in group['params']
                if parameter.grad is not None
            ]
            skipped = 0 if _are_finite(gradients) else skipped + 1
            if skipped > most:
                what = 'Gradients are not finite, although the loss is,'
                raise NonFiniteLossError(_message(runner, what, self._images))
            step(**kwargs)

        optim_wrapper.update_params = checked
        optim_wrapper.step = checked_step

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Remember the images of a step, for error messages."""
        if not has_gathered(runner):
            self._images = {}
        batch = data_batch if isinstance(data_batch, dict) else {}
        samples = batch.get('data_samples') or []
        if not isinstance(samples, list | tuple):
            samples = [samples]
        self._images[runner.iter] = [
            getattr(sample, 'img_path', '?') for sample in samples
        ]


def _are_finite(gradients: list[Tensor]) -> bool:
    """Tell whether all gradients are finite, over shards in all processes."""
    # Not by a norm, which may overflow although no entry does.
    finite = [
        (g.to_local() if isinstance(g, DTensor) else g).isfinite().all()
        for g in gradients
    ]
    if not finite:
        return True
    are_finite = torch.stack(finite).all().int()
    if any(isinstance(g, DTensor) for g in gradients):
        all_reduce(are_finite, 'min')
    return bool(are_finite)


def _message(runner: Runner, what: str, images: dict[int, list[str]]) -> str:
    most = max(1, MOST_IMAGES // len(images))
    batches = '; '.join(
        f'{some(paths, most)} (iteration {iteration + 1})'
        for iteration, paths in images.items()
    )
    return (
        f'{what} at epoch {runner.epoch + 1}, iteration {runner.iter + 1}; '
        'the weights are those before it. Lower the learning rate, or check '
        f'the images: {batches}'
    )
