"""Choice of a method's settings inside the training images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F

from mmclip.few_shot.method import Encoded, Method

FOLDS = 5
FEW = 2000  # with more images, one fold is enough


@dataclass(frozen=True)
class Choice:
    """The settings that did best in cross-validation.

    Args:
        settings (dict): The arguments of ``fit``.
        accuracy (float | None): Top-1 in percent on the images held out;
            None if there was nothing to choose, or too few images.
    """

    settings: dict[str, Any]
    accuracy: float | None


def choose(method: Method, train: Encoded, seed: int = 0) -> Choice:
    """Choose settings by cross-validation; the lower loss breaks ties.

    Args:
        method (Method): The method.
        train (Encoded): The training images, the only ones that are used.
        seed (int): The seed of the folds. Defaults to 0.
    """
    grid = method.grid(train)
    folds = make_folds(train.labels.numpy(), seed)
    if len(grid) == 1 or not folds:
        return Choice(grid[0], None)
    scores = []
    for settings in grid:
        right, loss, number = 0, 0.0, 0
        for held_out in folds:
            rest = np.setdiff1d(np.arange(len(train)), held_out)
            classifier = method.fit(train.take(rest), **settings)
            logits = classifier.logits(train.pooled[held_out])
            labels = train.labels[held_out]
            right += int((logits.argmax(dim=1) == labels).sum())
            loss += F.cross_entropy(logits, labels, reduction='sum').item()
            number += len(labels)
        scores.append((-right / number, loss / number))
    best = min(range(len(grid)), key=lambda i: scores[i])
    return Choice(grid[best], -100 * scores[best][0])


def make_folds(
    labels: np.ndarray, seed: int, few: int = FEW
) -> list[np.ndarray]:
    """Return disjoint parts of the images to hold out, one after another.

    Each class stays in the rest, so a class of one image is never held out.
    Of more than ``few`` images only one fold is held out.

    Args:
        labels (np.ndarray): ``(N,)``.
        seed (int): Which images go together.
        few (int): Defaults to 2,000.

    Returns:
        list[np.ndarray]: The rows of each fold; none if no class has two
        images.
    """
    random = np.random.default_rng(seed)
    folds: list[list[int]] = [[] for _ in range(FOLDS)]
    start = 0
    for value in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == value))
        if len(rows) < 2:
            continue
        for i, row in enumerate(rows):
            folds[(start + i) % FOLDS].append(int(row))
        start += len(rows)  # so that folds are of equal size
    found = [np.array(sorted(fold)) for fold in folds if fold]
    return found[:1] if len(labels) > few else found
