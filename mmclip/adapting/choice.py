"""Which of several classifiers is the best, and whether that is sure."""

import math

import torch
from torch import Tensor


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
    return scale * (middle - spread), scale * (middle + spread)


def differ(one: Tensor, other: Tensor) -> bool:
    """Tell whether two classifiers differ on the same images.

    It is McNemar's exact test at 5 %: of the images on which only one of the
    two is right, each should have about half.

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
    return 2 * tail < 0.05
