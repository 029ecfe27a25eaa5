"""Gradients of a step that a checkpoint falls into the middle of."""

from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.distributed.tensor import DTensor

from mmclip.engine.distributed.fully_shard import shard_like

KEY = 'accumulated_gradients'


def share_gradients(runner: Runner) -> None:
    """Let all processes keep the mean of what they have gathered.

    Only one of them writes a checkpoint. The step that follows averages over
    the processes anyway.

    Args:
        runner (Runner): In training; all processes take part.
    """
    if not has_gathered(runner):
        return
    params = [param for _, param in _trained(runner)]
    used = torch.tensor([int(param.grad is not None) for param in params])
    all_reduce(used, 'max')
    for param, is_used in zip(params, used.tolist(), strict=True):
        if not is_used:
            continue
        if param.grad is None:  # in this process alone
            param.grad = torch.zeros_like(param)
        if not isinstance(param.grad, DTensor):  # of which each has a share
            all_reduce(param.grad, 'mean')


def add_gradients(runner: Runner, checkpoint: dict) -> None:
    """Add what ``accumulative_counts`` has gathered since the last step.

    Args:
        runner (Runner): In training, after :func:`share_gradients`.
        checkpoint (dict): Changed in place, if it is one to resume from.
    """
    if 'optimizer' in checkpoint and has_gathered(runner):
        checkpoint[KEY] = dict(
            accumulative_counts=runner.optim_wrapper._accumulative_counts,
            loss_scale=_loss_scale(runner),
            gradients={
                name: param.grad
                for name, param in _trained(runner)
                if param.grad is not None
            },
        )


def restore_gradients(runner: Runner, checkpoint: dict) -> None:
    """Go on gathering where a checkpoint was written.

    Args:
        runner (Runner): About to go on training.
        checkpoint (dict): As :func:`add_gradients` left it, on any device.

    Raises:
        ValueError: If the run now gathers another number of gradients, trains
            other parameters, or scales the loss where it did not, or not
            where it did.
    """
    saved: dict[str, Any] | None = checkpoint.get(KEY)
    if saved is None:
        return
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', None)
    if counts != saved['accumulative_counts']:
        raise ValueError(
            'The checkpoint was written in the middle of a step of '
            f'accumulative_counts={saved["accumulative_counts"]}, and now it '
            f'is {counts}. Resume with the same, or from another checkpoint.'
        )
    # A scaler goes on with the scale of the checkpoint. The first ones that
    # held gradients do not name it.
    scale = saved.get('loss_scale', _loss_scale(runner))
    if (scale is None) != (_loss_scale(runner) is None):
        raise ValueError(
            'The checkpoint was written in the middle of a step '
            f'{"with" if scale else "without"} a loss scaler, '
            'whose gradients are larger. Resume as it was begun, with or '
            'without --amp, or from another checkpoint.'
        )
    params = dict(_trained(runner))
    frozen = sorted(set(saved['gradients']) - set(params))
    if frozen:
        raise ValueError(
            'The checkpoint was written in the middle of a step that trains '
            f'{frozen[0]}, which this run does not train. Resume with the '
            'same settings, or from another checkpoint.'
        )
    for name, gradient in saved['gradients'].items():
        param = params[name]
        param.grad = shard_like(param, gradient.to(param.device))
    runner.logger.info(
        'Gradients gathered since the last step were restored; where mmengine '
        'warns below that they are lost, they are not.'
    )


def has_gathered(runner: Runner) -> bool:
    """Whether there are gradients of a step that was not taken yet."""
    optim_wrapper = runner.optim_wrapper
    return (
        isinstance(optim_wrapper, OptimWrapper)
        # which counts no passes, and so cannot accumulate
        and not isinstance(optim_wrapper, OptimWrapperDict)
        and not optim_wrapper.should_update()
    )


def _loss_scale(runner: Runner) -> float | None:
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return scaler and scaler.get_scale()


def _trained(runner: Runner) -> list[tuple[str, nn.Parameter]]:
    model: Any = runner.model
    while is_model_wrapper(model):
        model = model.module
    return [
        (name, param)
        for name, param in model.named_parameters()
        if param.requires_grad
    ]
