"""From which probability on an image gets a label."""

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST = 5  # images of a class whose threshold can be told from chance


@dataclass(frozen=True)
class Threshold:
    """The threshold of a class.

    Args:
        threshold (float): An image gets the class from there on.
        images (int): The images of the class that it was found with.
        own (bool): Whether they were enough; otherwise it is the threshold of
            all classes together.
    """

    threshold: float
    images: int
    own: bool


def find_thresholds(probabilities: Tensor, targets: Tensor) -> list[Threshold]:
    """Find where the F1 of each class is best.

    The best threshold for F1 is below a half if a class is rare (arXiv
    1402.1892). That of fewer than 5 images would be a matter of chance: such
    classes get the threshold which is best for all classes together, or, if
    there is no image at all, a half.

    Args:
        probabilities (Tensor): Of images that no classifier had seen,
            ``(n, K)``.
        targets (Tensor): Which classes each image has, ``(n, K)`` booleans.
    """
    shared = 0.5
    if targets.any():
        shared = best_threshold(probabilities.flatten(), targets.flatten())
    found = []
    for column, target in zip(probabilities.T, targets.T, strict=True):
        images = int(target.sum())
        own = images >= LEAST
        threshold = best_threshold(column, target) if own else shared
        found.append(Threshold(threshold, images, own))
    return found


def best_threshold(probabilities: Tensor, targets: Tensor) -> float:
    """Find the threshold with the best F1, halfway between probabilities.

    Args:
        probabilities (Tensor): ``(n,)``.
        targets (Tensor): ``(n,)`` booleans, of which one at least is true.
    """
    values, order = probabilities.double().sort(descending=True)
    right = targets[order].cumsum(0)
    answers = torch.arange(1, len(values) + 1)
    f1 = 2 * right / (answers + right[-1])
    f1[:-1][values[:-1] == values[1:]] = 0  # equal ones stand together
    best = int(f1.argmax())
    below = values[best + 1] if best + 1 < len(values) else 0.0
    return float((values[best] + below) / 2)
