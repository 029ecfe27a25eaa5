"""Choice of a method's settings inside the training images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmclip.few_shot.method import Encoded, Method
from mmclip.few_shot.temperature import fit_temperature

FOLDS = 5
FEW = 500  # with more images, one fold is enough
MOST = 2000  # images in this fold


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
    """Choose settings by the log loss of images that were held out.

    The loss is that at its best temperature, since probabilities are
    calibrated later. Accuracy would be too coarse: of 30 images, many
    settings have the same number right.

    Args:
        method (Method): The method.
        train (Encoded): The training images, the only ones that are used.
        seed (int): The seed of the folds. Defaults to 0.
    """
    grid = method.grid(train)
    folds = make_folds(train.labels.numpy(), seed)
    if len(grid) == 1 or not folds:
        return Choice(grid[0], None)
    # (settings, images held out, K)
    logits = torch.cat(
        [
            torch.stack(list(method.try_all(rest, held_out)))
            for rest, held_out in split(train, folds)
        ],
        dim=1,
    )
    labels = train.labels[np.concatenate(folds)]
    losses = [_loss(some, labels) for some in logits]
    best = losses.index(min(losses))
    right = (logits[best].argmax(dim=1) == labels).double().mean().item()
    return Choice(grid[best], 100 * right)


def _loss(logits: Tensor, labels: Tensor) -> float:
    temperature = fit_temperature(logits, labels)
    return F.cross_entropy(logits / temperature, labels).item()


def split(
    images: Encoded, folds: list[np.ndarray]
) -> Iterator[tuple[Encoded, Encoded]]:
    """Yield the rest and the fold, for each fold."""
    for held_out in folds:
        rest = np.setdiff1d(np.arange(len(images)), held_out)
        yield images.take(rest), images.take(held_out)


def make_folds(
    labels: np.ndarray, seed: int, few: int = FEW
) -> list[np.ndarray]:
    """Return disjoint parts of the images to hold out, one after another.

    Each class stays in the rest, so a class of one image is never held out.
    Of more than ``few`` images only one fold is held out.

    Args:
        labels (np.ndarray): ``(N,)``.
        seed (int): Which images go together.
        few (int): Defaults to 500.

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
    if len(labels) > few:  # of all classes, whose rows may be sorted
        folds = [random.permutation(folds[0])[:MOST].tolist()]
    return [np.array(sorted(fold)) for fold in folds if fold]
