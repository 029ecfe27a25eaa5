"""Which of several classifiers is the best, and whether that is sure."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LEVEL = 0.05  # what may be chance


def interval(right: int, number: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy, in percent.

    It is Wilson's score interval, which also holds for few images and near
    0 or 100 %.

    Args:
        right (int): Images that are right.
        number (int): All images; of none, nothing is known.
    """
    if not number:
        return 0.0, 100.0
    z = 1.959964  # of a normal distribution's central 95 %
    share = right / number
    middle = share + z**2 / (2 * number)
    spread = z * math.sqrt(
        share * (1 - share) / number + z**2 / (4 * number**2)
    )
    scale = 100 / (1 + z**2 / number)
    low, high = scale * (middle - spread), scale * (middle + spread)
    return max(0.0, low), min(high, 100.0)  # but for rounding, they are


def compare(one: Tensor, other: Tensor) -> float:
    """Return the p-value of McNemar's exact test on the same images.

    Of the images on which only one of two classifiers is right, each should
    have about half.

    Args:
        one (Tensor): Which images the first has right, ``(N,)`` booleans.
        other (Tensor): The same of the second.
    """
    first, second = int((one & ~other).sum()), int((other & ~one).sum())
    number, fewer = first + second, min(first, second)
    k = torch.arange(fewer + 1, dtype=torch.float64)
    ways = (  # the logarithm of `number choose k`, which may be huge
        math.lgamma(number + 1)
        - torch.lgamma(k + 1)
        - torch.lgamma(number - k + 1)
    )
    tail = (ways - number * math.log(2)).exp().sum().item()
    return min(1.0, 2 * tail)


def differ(one: Tensor, other: Tensor) -> bool:
    """Tell whether two classifiers differ, by that test alone, at 5 %."""
    return compare(one, other) < LEVEL


def holm(p_values: Sequence[float]) -> list[bool]:
    """Tell which of several tests are significant all the same.

    It is Holm's step-down procedure (Scandinavian Journal of Statistics 6,
    1979): the chance that any of them is wrongly so is at most 5 %.
    """
    found = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for done, i in enumerate(order):
        if p_values[i] > LEVEL / (len(p_values) - done):
            break
        found[i] = True
    return found
