"""The search for the best strength of regularisation.

Source: arXiv 2103.00020, appendix A.3.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmclip.probing.logistic import LinearClassifier, chunks

STEPS = 96  # from 1e-6 to 1e6, 8 per decade
FIRST_STRIDE = 16  # 2 decades


@dataclass(frozen=True)
class Trial:
    """The result of one strength of regularisation.

    Args:
        c (float): The inverse strength, scikit-learn's ``C``.
        accuracy (float): Top-1 in percent on the validation split.
        loss (float): Mean cross entropy there.
        converged (bool): As in :class:`.logistic.LinearClassifier`.
    """

    c: float
    accuracy: float
    loss: float
    converged: bool


def sweep(
    fit_one: Callable[[float], LinearClassifier],
    features: np.ndarray,
    labels: np.ndarray,
    report: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Search for the best ``C`` on a validation split.

    This is the paper's parametric binary search: the best of 1e-6, 1e-4, ...
    1e6, then its neighbours at half the distance, until the distance is an
    eighth of a decade. The lower loss breaks ties, which the paper leaves
    open. If one is worse than a smaller one by more than three standard
    errors, larger ones are not tried.

    Args:
        fit_one (Callable): Trains a classifier with a given ``C``.
        features (np.ndarray): Features of the validation split, ``(N, C)``.
        labels (np.ndarray): Their labels, ``(N,)``.
        report (Callable): A function to call after each trial.

    Returns:
        list[Trial]: The trials, best first.
    """
    trials: dict[int, Trial] = {}
    right: dict[int, Tensor] = {}

    def best() -> int:
        return min(trials, key=lambda step: _rank(trials[step]))

    stride = FIRST_STRIDE
    candidates = list(range(0, STEPS + 1, stride))
    while stride >= 1:
        for step in candidates:
            if step not in range(STEPS + 1) or step in trials:
                continue
            trials[step], right[step] = _try(
                10 ** (step / 8 - 6), fit_one, features, labels
            )
            report(trials[step])
            if step > best() and _is_clear(right[best()], right[step]):
                break
        stride //= 2
        candidates = [best() - stride, best() + stride]
    return sorted(trials.values(), key=_rank)


def _rank(trial: Trial) -> tuple[float, float]:
    return -trial.accuracy, trial.loss


def _is_clear(better: Tensor, worse: Tensor) -> bool:
    """Tell whether one has more right, by three standard errors."""
    won, lost = (better & ~worse).sum(), (worse & ~better).sum()
    return bool(won - lost > 3 * (won + lost).sqrt())


def _try(
    c: float,
    fit_one: Callable[[float], LinearClassifier],
    features: np.ndarray,
    labels: np.ndarray,
) -> tuple[Trial, Tensor]:
    classifier = fit_one(c)
    loss, right = 0.0, []
    for rows in chunks(len(labels), len(classifier.weight)):
        scores = classifier.scores(features[rows])
        targets = torch.tensor(labels[rows])
        right.append(scores.argmax(dim=1) == targets)
        loss += F.cross_entropy(scores, targets, reduction='sum').item()
    whole = torch.cat(right)
    accuracy = 100 * whole.double().mean().item()
    return Trial(c, accuracy, loss / len(labels), classifier.converged), whole
