"""What features say of the images: a map, doubtful labels, duplicates."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmclip.few_shot.temperature import fit_temperature

# Copies in another size or JPEG quality reach it, with the demo's encoder: all
# of 300 digits and 90 photos. Of their 48,855 other pairs six do, all of them
# photos of the same spot. Copies that lack a twentieth at each side do not.
NEAR = 0.99
ODDS = 50.0  # of the prediction and the label
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


def suspects(logits: Tensor, labels: Tensor) -> list[tuple[int, int, float]]:
    """Find labels that images contradict, by models that have not seen them.

    An image is suspicious if another class has at least the probability that
    it has on average among its own images (confident learning, arXiv
    1911.00068, section 3.1), and 50 times that of the label. Classes of fewer
    than 5 images are left out.

    Among correct labels some are improbable, too. How many that would be, the
    probabilities say themselves; unless there are three times as many, none is
    reported, since the model is too weak to tell.

    Args:
        logits (Tensor): By models that have not seen the image, ``(n, K)``.
        labels (Tensor): ``(n,)``.

    Returns:
        list[tuple[int, int, float]]: Row, predicted class and its
        probability; the most probable first.
    """
    if not len(labels):
        return []
    counts = labels.bincount(minlength=logits.shape[1])
    # Wrong labels would make the probabilities of correct ones too low.
    kept = torch.ones(len(labels), dtype=torch.bool)
    for _ in range(2):
        temperature = fit_temperature(logits[kept], labels[kept], 0.01)
        shares = (logits / temperature).softmax(dim=1)
        own = shares.gather(1, labels[:, None])[:, 0]
        typical = torch.zeros(len(counts)).index_add(0, labels, own) / counts
        typical[counts < FEWEST] = torch.inf
        best = shares.where(shares >= typical, 0).max(dim=1)
        clear = (best.values > 0) & (counts[labels] >= FEWEST)
        wrong = clear & (own * ODDS < best.values)
        kept = ~wrong
    # What the label's probability would be, were it drawn from them.
    unlikely = shares.where(shares * ODDS < best.values[:, None], 0)
    by_chance = unlikely[clear].sum().item()
    found = wrong.nonzero()[:, 0]
    if len(found) < 3 * by_chance:
        return []
    order = best.values[found].argsort(descending=True)[:MOST]
    return [
        (int(row), int(best.indices[row]), best.values[row].item())
        for row in found[order]
    ]


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
    found: list[tuple[int, int, float]] = []
    size = max(1, CHUNK // len(features))
    for start in range(0, len(features), size):
        some = features[start : start + size]
        cosines = some @ features[: start + len(some)].T
        before = torch.ones_like(cosines, dtype=torch.bool).tril(start - 1)
        nearest = cosines.masked_fill_(~before, -1).max(dim=1)
        for i in (nearest.values >= NEAR).nonzero()[:, 0].tolist():
            other, value = int(nearest.indices[i]), nearest.values[i].item()
            found.append((other, start + i, min(value, 1.0)))
        found.sort(key=lambda f: (splits[f[0]] == splits[f[1]], -f[2]))
        del found[MOST:]
    return found
