"""Choice of a method's settings inside the training images."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmclip.few_shot.method import Encoded, Method, progress
from mmclip.few_shot.temperature import best_loss

FOLDS = 5
FEW = 500  # with more images, one fold is enough
MOST = 2000  # images in this fold
MOST_LOGITS = 2**24  # images times classes, with more some classes are enough


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


def choose(
    method: Method,
    train: Encoded,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> Choice:
    """Choose settings by the log loss of images that were held out.

    Of very many images and classes, some classes choose for all.

    The loss is that at its best temperature, since probabilities are
    calibrated later. Accuracy would be too coarse: of 30 images, many
    settings have the same number right.

    Args:
        method (Method): The method.
        train (Encoded): The training images, the only ones that are used.
        seed (int): The seed of the folds. Defaults to 0.
        groups (np.ndarray | None): See :func:`make_folds`.
    """
    grid = method.grid(train)
    if len(grid) == 1:
        return Choice(grid[0], None)
    if len(train) * train.num_classes > MOST_LOGITS:
        train, rows = some_classes(train, seed)
        groups = None if groups is None else groups[rows]
    folds = make_folds(train.labels.numpy(), seed, groups=groups)
    if not folds:
        return Choice(grid[0], None)
    labels = train.labels[np.concatenate(folds)]
    losses, rights = [], []
    # All folds at once, one settings after another, so that few logits are in
    # memory.
    tries = [
        method.try_all(rest, held_out)
        for rest, held_out in split(train, folds)
    ]
    steps = zip(*tries, strict=True)
    for parts in progress(steps, method.title, 'setting', len(grid)):
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):  # out of the question
            losses.append(math.inf)
            rights.append(math.nan)
            continue
        logits = torch.cat(found)  # (images held out, K)
        losses.append(best_loss(logits, labels))
        right = (logits.argmax(dim=1) == labels).double().mean().item()
        rights.append(right)
    best = losses.index(min(losses))
    return Choice(grid[best], 100 * rights[best])


def out_of_fold(
    method: Method,
    settings: dict[str, Any],
    images: Encoded,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, Tensor]:
    """Compute logits by classifiers that have not seen the image.

    Args:
        method (Method): The method.
        settings (dict): Its settings.
        images (Encoded): The images.
        seed (int): The seed of the folds. Defaults to 0.
        groups (np.ndarray | None): See :func:`make_folds`.

    Returns:
        tuple[np.ndarray, Tensor]: The rows of the images that can be held out,
        ``(n,)``, and their logits ``(n, K)``; there may be none.
    """
    labels = images.labels.numpy()
    folds = make_folds(labels, seed, few=len(images), groups=groups)
    parts = split(images, folds)
    logits = [
        method.fit(rest, **settings).logits(held_out.pooled)
        for rest, held_out in progress(parts, method.title, 'fold', len(folds))
    ]
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *folds])
    return rows, torch.cat([torch.zeros(0, images.num_classes), *logits])


def split(
    images: Encoded, folds: list[np.ndarray]
) -> Iterator[tuple[Encoded, Encoded]]:
    """Yield the rest and the fold, for each fold."""
    for held_out in folds:
        rest = np.setdiff1d(np.arange(len(images)), held_out)
        yield images.take(rest), images.take(held_out)


def some_classes(images: Encoded, seed: int) -> tuple[Encoded, np.ndarray]:
    """Return the images of some classes, and their rows.

    There are as many of both as :data:`MOST_LOGITS` allows, and as many images
    per class as before, which is what good settings depend on.

    Args:
        images (Encoded): Images and classes.
        seed (int): Of the choice of classes.
    """
    number = images.num_classes
    share = math.sqrt(MOST_LOGITS / (len(images) * number))
    random = np.random.default_rng(seed)
    kept = np.sort(random.permutation(number)[: max(2, int(share * number))])
    new = np.full(number, -1)
    new[kept] = np.arange(len(kept))
    labels = new[images.labels.numpy()]
    rows = np.flatnonzero(labels >= 0)
    text = images.text and replace(
        images.text, embeddings=images.text.embeddings[kept]
    )
    return replace(
        images,
        pooled=images.pooled[rows],
        labels=torch.tensor(labels[rows]),
        num_classes=len(kept),
        text=text,
    ), rows


def make_folds(
    labels: np.ndarray,
    seed: int,
    few: int = FEW,
    groups: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Return disjoint parts of the images to hold out, one after another.

    Each class stays in the rest, so a class of one image is never held out.
    Of more than ``few`` images only one fold is held out.

    Args:
        labels (np.ndarray): ``(N,)``.
        seed (int): Which images go together.
        few (int): Defaults to 500.
        groups (np.ndarray | None): A number per image, ``(N,)``; copies have
            the same, and stay together. Defaults to None: no copies.

    Returns:
        list[np.ndarray]: The rows of each fold; none if no class has two
        images.
    """
    random = np.random.default_rng(seed)
    if groups is None:
        groups = np.arange(len(labels))
    # Of copies the first is dealt out, and the others go with it, but not
    # those with another label, as their class must stay in the rest.
    _, first, group = np.unique(
        np.stack([groups, labels]),
        axis=1,
        return_index=True,
        return_inverse=True,
    )
    first.sort()
    group = group.reshape(-1)
    folds: list[list[int]] = [[] for _ in range(FOLDS)]
    start = 0
    for value in np.unique(labels):
        rows = random.permutation(first[labels[first] == value])
        if len(rows) < 2:
            continue
        for i, row in enumerate(rows):
            folds[(start + i) % FOLDS].append(int(row))
        start += len(rows)  # so that folds are of equal size
    if len(labels) > few:  # of all classes, whose rows may be sorted
        folds = [random.permutation(folds[0])[:MOST].tolist()]
    return [
        np.flatnonzero(np.isin(group, group[fold])) for fold in folds if fold
    ]
