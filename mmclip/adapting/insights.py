"""What features say of the images: a map, doubtful labels, duplicates."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmclip.few_shot.cross_validation import make_folds, split
from mmclip.few_shot.linear_probe import LinearProbe
from mmclip.few_shot.method import Encoded

# Copies in another size or JPEG quality reach it, with the demo's encoder: all
# of 300 digits and 90 photos. Of their 48,855 other pairs six do, all of them
# photos of the same spot. Copies that lack a twentieth at each side do not.
NEAR = 0.99
PROBE_C = 10.0  # larger ones learn wrong labels by heart
FEWEST = 5  # images of a class; with fewer, most suspects are false
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


def suspects(images: Encoded, seed: int = 0) -> list[tuple[int, int, float]]:
    """Find labels that images contradict, by models that have not seen them.

    Each image is classified by a linear probe on the other folds, whatever
    method is the best: it has no opinion before it sees labels. An image is
    suspicious if the probe prefers another class, with at least the
    probability that this class has on average among its own images (confident
    learning, arXiv 1911.00068, section 3.1). Classes of fewer than 5 images
    are left out.

    Args:
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
        logits = LinearProbe().fit(rest, c=PROBE_C).logits(held_out.pooled)
        probabilities[rows] = logits.softmax(dim=1)
    seen = images.labels.bincount()[images.labels] >= FEWEST
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
    pooled: Tensor, splits: Sequence[str]
) -> list[tuple[int, int, float]]:
    """Find pairs of images with almost the same features.

    Features are centred, since all images have much in common. An image is
    compared with all before it and paired with the most similar, so n copies
    give n - 1 pairs.

    Args:
        pooled (Tensor): Features before the projection, ``(N, C)``.
        splits (Sequence[str]): The split of each image.

    Returns:
        list[tuple[int, int, float]]: Two rows and their cosine; pairs of
        different splits first, then the most similar.
    """
    features = F.normalize(pooled - pooled.mean(dim=0), dim=-1)
    found = []
    size = max(1, CHUNK // len(features))
    for start in range(0, len(features), size):
        some = features[start : start + size]
        cosines = some @ features[: start + len(some)].T
        before = torch.ones_like(cosines, dtype=torch.bool).tril(start - 1)
        nearest = cosines.where(before, -1).max(dim=1)
        for i in (nearest.values >= NEAR).nonzero()[:, 0].tolist():
            other, value = int(nearest.indices[i]), nearest.values[i].item()
            found.append((other, start + i, min(value, 1.0)))
    found.sort(key=lambda f: (splits[f[0]] == splits[f[1]], -f[2]))
    return found[:MOST]
