"""L-BFGS that starts from a diagonal of the Hessian."""

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor
from tqdm import tqdm

MAX_HALVINGS = 10  # of a step
DELAY = 3  # seconds before there is a bar
HISTORY = 10  # steps, scipy's default


def minimize(
    loss_and_gradient: Callable[[Tensor], tuple[float, Tensor]],
    start: Tensor,
    curvature: Tensor,
    highest: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, int]:
    """Minimise a convex function by L-BFGS with backtracking.

    torch's L-BFGS takes no Hessian to start from, and its first step is so
    short that a warm start is half lost.

    Source: Nocedal and Wright, Numerical Optimization, algorithms 7.4, 3.1.

    Args:
        loss_and_gradient (Callable): The function.
        start (Tensor): Where it begins.
        curvature (Tensor): The diagonal of the Hessian there, or nearly.
        highest (float): What one has without minimising.
        tolerance (float): See :class:`.logistic.LogisticRegression`.
        max_iterations (int): See there.

    Returns:
        tuple[Tensor, int]: The minimum and the number of iterations.
    """
    theta, (loss, gradient) = start, loss_and_gradient(start)
    steps: list[Tensor] = []
    changes: list[Tensor] = []  # of the gradient
    counted = tqdm(
        range(max_iterations),
        '  L-BFGS',
        total=inf,  # it mostly ends long before the last
        unit='iteration',
        leave=False,
        disable=None,
        delay=DELAY,
    )
    for iteration in counted:
        direction = _newton_step(gradient, steps, changes, curvature)
        slope = _dot(gradient, direction)
        # About half of it is left to gain. All that there is to gain is tiny
        # where C is small, and the loss where C is large.
        if -slope <= tolerance * min(loss, highest - loss):
            return theta, iteration
        for power in range(MAX_HALVINGS):
            step = direction / 2**power
            new_loss, new_gradient = loss_and_gradient(theta + step)
            if new_loss <= loss + 1e-4 * slope / 2**power:
                break
        else:  # the rest is rounding
            return theta, iteration
        steps = [*steps[1 - HISTORY :], step]
        changes = [*changes[1 - HISTORY :], new_gradient - gradient]
        theta, loss, gradient = theta + step, new_loss, new_gradient
    return theta, max_iterations


def _newton_step(
    gradient: Tensor,
    steps: list[Tensor],
    changes: list[Tensor],
    curvature: Tensor,
) -> Tensor:
    """Return minus the inverse of the Hessian times the gradient."""
    past = [(s, y, _dot(s, y)) for s, y in zip(steps, changes, strict=True)]
    direction, shares = -gradient, []
    for step, change, product in reversed(past):
        shares.append(_dot(step, direction) / product)
        direction = direction - shares[-1] * change
    direction = direction / curvature
    if past:
        _, change, product = past[-1]
        direction *= product / _dot(change, change / curvature)
    for step, change, product in past:
        share = shares.pop() - _dot(change, direction) / product
        direction += share * step
    return direction


def _dot(one: Tensor, other: Tensor) -> float:
    return torch.dot(one.flatten(), other.flatten()).item()
