"""A hook that stops training at a loss that is not finite."""

from functools import wraps
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
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

    Losses and gradients are checked together, with one wait for the device in
    each step. A fused optimizer is told to skip a bad step on the device, so
    that the wait is only after the step.
    """

    _images: dict[int, list[str]]  # images of the step, by iteration

    def before_train(self, runner: Runner) -> None:
        """Add a check before the step of each optimizer."""
        self._images = {}
        for optim_wrapper in wrappers_by_key(runner).values():
            self._guard(optim_wrapper, runner)

    def _guard(self, optim_wrapper: OptimWrapper, runner: Runner) -> None:
        update_params, step = optim_wrapper.update_params, optim_wrapper.step
        optimizer: Any = optim_wrapper.optimizer
        is_scaled = isinstance(optim_wrapper, AmpOptimWrapper)
        losses: dict[int, Tensor] = {}  # of the step, by iteration
        skipped = 0

        def update(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            losses[runner.iter] = loss.detach().clone()
            update_params(loss, *args, **kwargs)

        # Keeps the attributes that schedulers set on it.
        @wraps(step)
        def checked_step(**kwargs: Any) -> None:
            nonlocal skipped
            groups = optim_wrapper.param_groups
            gradients = [
                parameter.grad
                for group in groups
                for parameter in group['params']
                if parameter.grad is not None
            ]
            is_sharded = any(isinstance(g, DTensor) for g in gradients)
            found_inf = _find_inf([*losses.values(), *gradients], is_sharded)
            is_fused = all(group.get('fused') for group in groups)
            # A loss scaler tells it on its own.
            if is_told := is_fused and not is_scaled and not is_sharded:
                optimizer.found_inf = found_inf  # as torch.amp.GradScaler does
                step(**kwargs)
                del optimizer.found_inf
            skipped = skipped + 1 if found_inf else 0  # waits for the device
            if skipped:
                is_last = skipped > MOST_SKIPPED * is_scaled
                self._refuse(losses, runner, is_last)
            losses.clear()
            if not is_told:
                step(**kwargs)

        optim_wrapper.update_params = update
        optim_wrapper.step = checked_step

    def _refuse(
        self, losses: dict[int, Tensor], runner: Runner, is_last: bool
    ) -> None:
        """Stop for a loss, and for gradients if no more may be skipped."""
        for iteration, loss in losses.items():
            if not loss.isfinite():
                images = {iteration: self._images.get(iteration, [])}
                what = f'The loss is {loss.tolist()}'
                raise NonFiniteLossError(_message(runner, what, images))
        if is_last:
            whose = 'of this process ' * (get_world_size() > 1)
            what = f'Gradients are not finite, although the loss {whose}is,'
            raise NonFiniteLossError(_message(runner, what, self._images))

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


def _find_inf(tensors: list[Tensor], is_sharded: bool) -> Tensor:
    """Return 1 if a value is not finite, in any process if sharded, else 0.

    It does what a loss scaler does, without waiting for the device.
    """
    device = tensors[-1].device if tensors else None
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        by_dtype.setdefault(local.dtype, []).append(local.to(device))
    found_inf = torch.zeros((), device=device)
    one = torch.ones((), device=device)
    for same in by_dtype.values():
        # Multiplies them by one, too.
        torch._amp_foreach_non_finite_check_and_unscale_(same, found_inf, one)
    if is_sharded:
        all_reduce(found_inf, 'max')
    return found_inf


def _message(runner: Runner, what: str, images: dict[int, list[str]]) -> str:
    most = max(1, MOST_IMAGES // len(images))
    batches = '; '.join(
        f'{some(paths, most)} (iteration {iteration + 1})'
        for iteration, paths in images.items()
    )
    return (
        f'{what} at epoch {runner.epoch + 1}, iteration {max(images) + 1}; '
        'the weights are those before it. Lower the learning rate, or check '
        f'the images: {batches}'
    )
