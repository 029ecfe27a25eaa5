"""Probabilities that can be trusted: temperature, error, "not sure"."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmclip.few_shot.temperature import fit_temperature

BINS = 15
WANTED = 0.95  # accuracy of the images that get an answer


@dataclass(frozen=True)
class Calibration:
    """What is done to logits before they are called probabilities.

    Args:
        temperature (float): By which logits are divided.
        threshold (float): The probability below which a classifier is not
            sure.
        error_before (float): Expected calibration error in percent.
        error_after (float): The same after the division.
        answered (float): Share in percent of the images at or above the
            threshold.
        accuracy_of_answered (float): Top-1 in percent of these.
    """

    temperature: float
    threshold: float
    error_before: float
    error_after: float
    answered: float
    accuracy_of_answered: float


def calibrate(logits: Tensor, labels: Tensor) -> Calibration:
    """Fit a temperature and a threshold to validation images.

    Args:
        logits (Tensor): ``(N, K)``.
        labels (Tensor): ``(N,)``.
    """
    temperature = fit_temperature(logits, labels)
    probabilities = (logits / temperature).softmax(dim=1)
    sure, predicted = probabilities.max(dim=1)
    right = predicted == labels
    threshold = find_threshold(sure, right)
    answered = sure >= threshold
    return Calibration(
        temperature=temperature,
        threshold=threshold,
        error_before=calibration_error(logits.softmax(dim=1), labels),
        error_after=calibration_error(probabilities, labels),
        answered=100 * answered.float().mean().item(),
        accuracy_of_answered=100 * right[answered].float().mean().item(),
    )


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Compute the expected calibration error in percent, with 15 bins.

    Source: arXiv 1706.04599, equation 3: the mean of the gaps between
    accuracy and confidence, weighted by the images of each bin.

    Args:
        probabilities (Tensor): ``(N, K)``.
        labels (Tensor): ``(N,)``.
    """
    sure, predicted = probabilities.max(dim=1)
    bins = (sure * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
    gaps = (predicted == labels).double() - sure.double()
    sums = torch.zeros(BINS, dtype=torch.float64).index_add(0, bins, gaps)
    return 100 * sums.abs().sum().item() / len(labels)


def find_threshold(sure: Tensor, right: Tensor) -> float:
    """Find the least probability at which 95 % of the answers are right.

    Args:
        sure (Tensor): The probability of each prediction, ``(N,)``.
        right (Tensor): Whether it is right, ``(N,)`` booleans.

    Returns:
        float: 0 if all images can be answered; the highest probability if
        there is no such threshold.
    """
    order = sure.argsort(descending=True)
    share = right[order].double().cumsum(0) / torch.arange(1, len(sure) + 1)
    good = (share >= WANTED).nonzero()
    if not len(good):
        return sure.max().item()
    last = int(good.max())
    return 0.0 if last == len(sure) - 1 else sure[order[last]].item()
