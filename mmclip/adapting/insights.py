"""What features say of the images: a map, doubtful labels, duplicates."""

from typing import Any

import torch
from torch import Tensor

from mmclip.few_shot.cross_validation import make_folds, split
from mmclip.few_shot.method import Encoded, Method
from mmclip.own_images.table import Images

NEAR = 0.98  # cosine of two pictures of the same thing
MOST = 200  # pairs, or suspects
CHUNK = 2**24  # cosines in memory at once


def embedding_map(embedded: Tensor) -> list[list[float]]:
    """Place images on a plane by their two principal components.

    Args:
        embedded (Tensor): ``(N, D)``.

    Returns:
        list[list[float]]: ``(N, 2)``, from -1 to 1.
    """
    centred = embedded - embedded.mean(dim=0)
    # Of a matrix (D, D), which does not grow with the images.
    _, axes = torch.linalg.eigh(centred.T @ centred)
    places = centred @ axes[:, -2:].flip(1)  # (N, 2)
    places = places / places.abs().max().clamp(min=1e-12)
    return [[round(x, 3) for x in place] for place in places.tolist()]


def suspects(
    method: Method, settings: dict[str, Any], images: Encoded, seed: int
) -> list[tuple[int, int, float]]:
    """Find labels that images contradict, by models that have not seen them.

    Each image is classified by a model of the other folds. It is suspicious
    if that model prefers another class, with at least the probability that
    this class has on average among its own images (confident learning, arXiv
    1911.00068, section 3.1).

    Args:
        method (Method): The method, with its settings.
        settings (dict): The arguments of ``fit``.
        images (Encoded): All labelled images.
        seed (int): The seed of the folds.

    Returns:
        list[tuple[int, int, float]]: Row, predicted class and its
        probability; the most probable first.
    """
    folds = make_folds(images.labels.numpy(), seed, few=len(images))
    probabilities = torch.full((len(images), images.num_classes), torch.nan)
    for rows, (rest, held_out) in zip(
        folds, split(images, folds), strict=True
    ):
        classifier = method.fit(rest, **settings)
        logits = classifier.logits(held_out.pooled)
        probabilities[rows] = logits.softmax(dim=1)
    seen = ~probabilities[:, 0].isnan()
    typical = torch.ones(images.num_classes)
    for label in range(images.num_classes):
        of_class = seen & (images.labels == label)
        if of_class.any():
            typical[label] = probabilities[of_class, label].mean()
    found = []
    for row in seen.nonzero()[:, 0].tolist():
        above = probabilities[row] * (probabilities[row] >= typical)
        best = int(above.argmax())
        label = int(images.labels[row])
        if above[best] > 0 and best != label:
            found.append((row, best, probabilities[row, best].item()))
    return sorted(found, key=lambda f: -f[2])[:MOST]


def near_duplicates(
    embedded: Tensor, images: Images
) -> list[tuple[int, int, float]]:
    """Find pairs of images with almost the same features.

    Args:
        embedded (Tensor): Features of length one, ``(N, D)``.
        images (Images): The same images.

    Returns:
        list[tuple[int, int, float]]: Two rows and their cosine; pairs of
        different splits first, then the most similar.
    """
    found = []
    rows = max(1, CHUNK // len(embedded))
    for start in range(0, len(embedded), rows):
        cosines = embedded[start : start + rows] @ embedded.T
        for one, other in (cosines >= NEAR).nonzero().tolist():
            if start + one < other:
                value = cosines[one, other].item()
                found.append((start + one, other, min(value, 1.0)))
    splits = images.splits
    found.sort(key=lambda f: (splits[f[0]] == splits[f[1]], -f[2]))
    return found[:MOST]
