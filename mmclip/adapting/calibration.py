"""Probabilities that can be trusted: temperature, error, "not sure"."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmclip.few_shot.temperature import fit_temperature

BINS = 15
SPREAD = 0.25  # of the logarithms of temperatures, before images are seen
WANTED = 0.95  # accuracy of the images that get an answer
LEAST = 20  # answers of which 95 % can be told


@dataclass(frozen=True)
class Bin:
    """Images whose predictions have similar probabilities.

    Args:
        low (float): The least probability, not included.
        high (float): The greatest, included.
        images (int): How many there are, at least one.
        confidence (float): The mean of their probabilities.
        accuracy (float): Top-1 in percent.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """What is done to logits before they are called probabilities.

    Args:
        temperature (float): By which logits are divided.
        threshold (float): The probability below which a classifier is not
            sure; 0 if it always is, or ``too_few``.
        too_few (bool): Whether there are too few validation images to find a
            threshold.
        split (str): ``'val'`` or ``'test'``, the images on which the rest is
            measured.
        error_before (float): Expected calibration error in percent.
        error_after (float): The same after the division.
        answered (float): Share in percent of the images at or above the
            threshold.
        accuracy_of_answered (float | None): Top-1 in percent of these; None
            if there are none.
        bins (list[Bin]): What ``error_after`` is the mean of.
        bins_before (list[Bin]): What ``error_before`` is the mean of.
    """

    temperature: float
    threshold: float
    too_few: bool
    split: str
    error_before: float
    error_after: float
    answered: float
    accuracy_of_answered: float | None
    bins: list[Bin]
    bins_before: list[Bin]


def calibrate(
    logits: Tensor,
    labels: Tensor,
    *,
    more: tuple[Tensor, Tensor] | None = None,
    test: tuple[Tensor, Tensor] | None = None,
) -> Calibration:
    """Fit a temperature and a threshold to validation images.

    Few images move the temperature little from 1. Validation images have also
    chosen the method, so what is measured on them is somewhat too good. Of few
    images, many bins have only one or two, and the errors are too large.

    Args:
        logits (Tensor): ``(N, K)``.
        labels (Tensor): ``(N,)``.
        more (tuple | None): Logits and labels of other images, which help to
            fit the temperature. Defaults to None.
        test (tuple | None): The same of test images, on which the result is
            measured. Defaults to None: it is measured on the first ones.
    """
    fitted = [(logits, labels), *([] if more is None else [more])]
    temperature = fit_temperature(
        torch.cat([one for one, _ in fitted]),
        torch.cat([other for _, other in fitted]),
        spread=SPREAD,
    )
    threshold = find_threshold(*_answers(logits / temperature, labels))
    too_few = len(labels) < LEAST
    if test is not None:
        logits, labels = test
    before, _ = _answers(logits, labels)
    after, right = _answers(logits / temperature, labels)
    bins_before, bins = make_bins(before, right), make_bins(after, right)
    answered = after >= threshold
    return Calibration(
        temperature=temperature,
        threshold=threshold,
        too_few=too_few,
        split='val' if test is None else 'test',
        error_before=calibration_error(bins_before),
        error_after=calibration_error(bins),
        answered=100 * answered.double().sum().item() / max(len(labels), 1),
        accuracy_of_answered=(
            100 * right[answered].double().mean().item()
            if answered.any()
            else None
        ),
        bins=bins,
        bins_before=bins_before,
    )


def make_bins(sure: Tensor, right: Tensor) -> list[Bin]:
    """Group predictions by their probability, in 15 equal steps.

    Args:
        sure (Tensor): The probability of each prediction, ``(N,)``.
        right (Tensor): Whether it is right, ``(N,)`` booleans.

    Returns:
        list[Bin]: Those with images.
    """
    places = (sure * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
    return [
        Bin(
            low=place / BINS,
            high=(place + 1) / BINS,
            images=int((places == place).sum()),
            confidence=sure[places == place].double().mean().item(),
            accuracy=100 * right[places == place].double().mean().item(),
        )
        for place in places.unique().tolist()
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Compute the expected calibration error in percent.

    Source: arXiv 1706.04599, equation 3: the mean of the gaps between
    accuracy and confidence, weighted by the images of each bin.
    """
    gaps = [abs(b.accuracy - 100 * b.confidence) * b.images for b in bins]
    return sum(gaps) / max(sum(b.images for b in bins), 1)


def find_threshold(sure: Tensor, right: Tensor, least: int = LEAST) -> float:
    """Find the least probability at which 95 % of the answers are right.

    Args:
        sure (Tensor): The probability of each prediction, ``(N,)``.
        right (Tensor): Whether it is right, ``(N,)`` booleans.
        least (int): Answers without which none is found. Defaults to 20.

    Returns:
        float: 0 if all images can be answered, or there are fewer than
        ``least`` images; 1 if there is no such probability.
    """
    sure, order = sure.sort(descending=True)
    number = torch.arange(1, len(sure) + 1)
    good = right[order].cumsum(0) >= WANTED * number
    if len(sure) < least:
        return 0.0  # too few to tell
    good &= number >= least
    good[:-1] &= sure[:-1] > sure[1:]  # equal ones get an answer together
    if good[-1:].all():
        return 0.0
    return sure[good].min().item() if good.any() else 1.0


def _answers(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    sure, predicted = logits.softmax(dim=1).max(dim=1)
    return sure, predicted == labels
