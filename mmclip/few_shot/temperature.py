"""The number by which logits are divided to become good probabilities."""

import math

import torch.nn.functional as F
from torch import Tensor

GOLDEN = (math.sqrt(5) - 1) / 2


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
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

    Returns:
        float: The temperature; 1 if there are no images.
    """
    if not len(labels):
        return 1.0
    smoothing = 0.5 / (len(labels) + 2)
    logits = logits.double()
    low, high = math.log(1 / 100), math.log(100)

    def loss(log: float) -> float:
        return F.cross_entropy(
            logits / math.exp(log), labels, label_smoothing=smoothing
        ).item()

    while high - low > 1e-4:
        left = high - GOLDEN * (high - low)
        right = low + GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
