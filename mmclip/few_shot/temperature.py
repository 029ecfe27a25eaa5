"""The number by which logits are divided to become good probabilities."""

import math

import torch.nn.functional as F
from torch import Tensor

GOLDEN = (math.sqrt(5) - 1) / 2
CHUNK = 2**22  # logits in float64 at once


def fit_temperature(
    logits: Tensor,
    labels: Tensor,
    precision: float = 1e-4,
    spread: float = math.inf,
) -> float:
    """Find the temperature with the least cross entropy.

    Source: arXiv 1706.04599, section 4.2. The loss is convex in 1 /
    temperature, so it has one minimum, which golden-section search finds. It
    is looked for between 1/100 and 100.

    Three images that are right would make every answer certain. So labels
    are smoothed, as if half an image in N + 2 had any label: of 100 images
    nobody notices, of 10 it saves the probabilities.

    Args:
        logits (Tensor): ``(N, K)``.
        labels (Tensor): ``(N,)``.
        precision (float): Of the temperature's logarithm. Defaults to 1e-4.
        spread (float): The standard deviation of this logarithm, about zero,
            that is assumed beforehand, so that few images do not make good
            probabilities worse. Defaults to infinite: nothing is assumed.

    Returns:
        float: The temperature; 1 if there are no images.
    """
    if not len(labels):
        return 1.0
    smoothing = 0.5 / (len(labels) + 2)

    def loss(log: float) -> float:
        prior = (log / spread) ** 2 / (2 * len(labels))
        return prior + cross_entropy(logits, labels, math.exp(log), smoothing)

    low, high = math.log(1 / 100), math.log(100)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    of_left, of_right = loss(left), loss(right)
    while high - low > precision:
        if of_left <= of_right:
            high, right, of_right = right, left, of_left
            left = high - GOLDEN * (high - low)
            of_left = loss(left)
        else:
            low, left, of_left = left, right, of_right
            right = low + GOLDEN * (high - low)
            of_right = loss(right)
    return math.exp((low + high) / 2)


def best_loss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean cross entropy at the best temperature."""
    # A hundredth from the minimum, the loss is that of the minimum.
    return cross_entropy(logits, labels, fit_temperature(logits, labels, 0.01))


def cross_entropy(
    logits: Tensor, labels: Tensor, temperature: float, smoothing: float = 0.0
) -> float:
    """Return the mean cross entropy of ``logits / temperature``."""
    size = max(1, CHUNK // logits.shape[1])
    total = 0.0
    for some, of_some in zip(
        logits.split(size), labels.split(size), strict=True
    ):
        total += F.cross_entropy(
            some.double() / temperature,
            of_some,
            reduction='sum',
            label_smoothing=smoothing,
        ).item()
    return total / len(labels)
