"""Methods for images that may have several labels, or none.

Each class has a sigmoid of its own. In :class:`.method.Encoded`, ``labels``
are ``(N, K)`` booleans.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.models.heads import MultiLabelClsHead, MultiLabelLinearClsHead
from torch import Tensor

from mmclip.evaluation.average_precision import average_precision
from mmclip.few_shot import linear_probe, nearest_neighbours
from mmclip.few_shot.cross_validation import FEW, FOLDS, MOST, split
from mmclip.few_shot.heads import TEMPERATURE
from mmclip.few_shot.method import (
    Classifier,
    Encoded,
    Method,
    linear_classifier,
)
from mmclip.registry import MODELS

# Bounds of the scale of cosines: below, the order of images could drown in
# roundings; CLIP itself is trained with at most 100.
LEAST_SCALE, MOST_SCALE = 0.1, 1000.0


@MODELS.register_module()
class MultiLabelZeroShotClsHead(MultiLabelLinearClsHead):
    """A linear layer on features of length one, with sigmoids.

    As :class:`mmclip.ZeroShotClsHead`, but for images with several labels.
    Arguments are those of mmpretrain's ``MultiLabelLinearClsHead``.
    """

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the last feature ``(B, D)``, with length one."""
        return F.normalize(feats[-1], dim=-1)


@MODELS.register_module()
class MultiLabelNearestNeighboursClsHead(MultiLabelClsHead):
    """A vote of the most similar training images on each class.

    As :class:`.heads.NearestNeighboursClsHead`, with the share of the votes
    that are for a class as its probability, from 0.001 to 0.999.

    Args:
        num_classes (int): K.
        in_channels (int): C.
        num_images (int): The number of training images.
        k (int): The number of neighbours.
        **kwargs: As in mmpretrain's ``MultiLabelClsHead``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_images: int,
        k: int,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.num_images, self.k = num_images, k
        self.register_buffer('keys', torch.zeros(num_images, in_channels))
        self.register_buffer(
            'targets', torch.zeros(num_images, num_classes, dtype=torch.bool)
        )

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the last feature ``(B, C)``, with length one."""
        return F.normalize(feats[-1], dim=-1)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Compute the logits ``(B, K)``."""
        cosines = self.pre_logits(feats) @ self.keys.T  # (B, N)
        nearest = cosines.topk(self.k)  # (B, k)
        votes = (nearest.values / TEMPERATURE).softmax(dim=1)
        votes = torch.zeros_like(cosines).scatter(1, nearest.indices, votes)
        return (votes @ self.targets.to(votes)).clamp(0.001, 0.999).logit()


class ZeroShot(Method):
    """Cosines with the class names, made probabilities by training images.

    The logits are ``s f . t_k + b_k``, where f is the feature and t_k the
    class embedding, both of length one. The scale s and the biases b_k, or
    one b for all classes, minimise the cross entropies of the sigmoids. As s
    is positive, the order of the images of each class, and so the average
    precision, is that of CLIP alone.

    Of few images, cross entropies would make biases infinite. So targets are
    Platt's: ``(n + 1) / (n + 2)`` for the n images of a class, and ``1 / (m +
    2)`` for the m others.
    """

    name = 'zero_shot'
    title = 'zero-shot'
    source = 'arXiv 2103.00020; targets: Platt 1999, section 2.2'
    needs_text = True

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return whether classes have biases of their own."""
        return [dict(own_biases=True), dict(own_biases=False)]

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Fit the scale and the biases."""
        assert train.text is not None
        embeddings = train.text.embeddings
        scale, biases = fit_scale_and_biases(
            (train.embedded() @ embeddings.T).double(),
            train.labels,
            train.text.logit_scale,
            own_biases=settings['own_biases'],
        )
        return linear_classifier(
            'mmclip.MultiLabelZeroShotClsHead',
            scale * embeddings,
            biases,
            train.projection,
        )


class LinearProbe(linear_probe.LinearProbe):
    """A logistic regression per class, on features before the projection.

    It minimises ``C * sum of binary cross entropies + |w|^2 / 2``, with
    features whose mean square distance from their mean is one.
    """

    source = 'arXiv 2103.00020, appendix A.3, with sigmoids'
    head = 'mmpretrain.MultiLabelLinearClsHead'

    def try_all(self, train: Encoded, images: Encoded) -> Iterator[Tensor]:
        """Start each C from the nearest one before."""
        size, regression = self._prepare(train)
        for settings in self.grid(train):
            found = regression.fit(settings['c'])
            classifier = self._classifier(train, size, found)
            yield classifier.logits(images.pooled)


class NearestNeighbours(nearest_neighbours.NearestNeighbours):
    """See :class:`MultiLabelNearestNeighboursClsHead`."""

    head = 'mmclip.MultiLabelNearestNeighboursClsHead'
    labels = 'targets'


METHODS: tuple[Method, ...] = (
    ZeroShot(),
    NearestNeighbours(),
    LinearProbe(),
)


@dataclass(frozen=True)
class Choice:
    """The settings that did best in cross-validation.

    Args:
        settings (dict): The arguments of ``fit``.
        precision (float | None): The mean average precision in percent on the
            images held out; None if there were none with a label.
    """

    settings: dict[str, Any]
    precision: float | None


def choose(
    method: Method,
    train: Encoded,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> Choice:
    """Choose settings by the log loss of images that were held out.

    Args:
        method (Method): One of ``METHODS``.
        train (Encoded): The training images, the only ones that are used.
        seed (int): The seed of the folds. Defaults to 0.
        groups (np.ndarray | None): See :func:`make_folds`.
    """
    grid = method.grid(train)
    folds = make_folds(train.labels.numpy(), seed, groups)
    if not folds:
        return Choice(grid[0], None)
    if len(train) > FEW:  # one fold is enough
        random = np.random.default_rng(seed)
        folds = [np.sort(random.permutation(folds[0])[:MOST])]
    tries: list[Any] = [
        list(method.try_all(rest, held_out))
        for rest, held_out in split(train, folds)
    ]
    # (settings, images held out, K)
    logits = torch.cat([torch.stack(found) for found in tries], dim=1)
    targets = train.labels[np.concatenate(folds)]
    losses = [
        F.binary_cross_entropy_with_logits(some, targets.float()).item()
        for some in logits
    ]
    best = losses.index(min(losses))
    mean = average_precision(logits[best], targets).nanmean().item()
    return Choice(grid[best], None if math.isnan(mean) else 100 * mean)


def out_of_fold(
    method: Method,
    settings: dict[str, Any],
    train: Encoded,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute probabilities by classifiers that have not seen the image.

    Returns:
        tuple[Tensor, Tensor]: Probabilities and labels, both ``(n, K)``, of
        the images that can be held out; there may be none.
    """
    folds = make_folds(train.labels.numpy(), seed, groups)
    found = [
        method.fit(rest, **settings).logits(held_out.pooled)
        for rest, held_out in split(train, folds)
    ]
    rows = np.concatenate([np.array([], dtype=int), *folds])
    targets = train.labels[rows]
    return torch.cat([targets[:0].float(), *found]).sigmoid(), targets


def make_folds(
    targets: np.ndarray, seed: int, groups: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return disjoint parts of the images to hold out, one after another.

    Each class stays in the rest, so an image that is the only one of a class
    is never held out. Images of rare classes choose their fold first, and
    take that which has the smallest share of their classes so far (after
    iterative stratification, Sechidis et al. 2011).

    Args:
        targets (np.ndarray): Which labels each image has, ``(N, K)``.
        seed (int): Which images go together.
        groups (np.ndarray | None): A number per image, ``(N,)``; copies have
            the same, and stay together. Defaults to None: no copies.

    Returns:
        list[np.ndarray]: The rows of each fold.
    """
    random = np.random.default_rng(seed)
    totals = targets.sum(axis=0)
    # Images without a label come last.
    rarest = np.where(targets, totals, len(targets) + 1).min(axis=1)
    rows = random.permutation(len(targets))
    counts = np.zeros((FOLDS, len(totals)), dtype=int)
    folds: list[list[int]] = [[] for _ in range(FOLDS)]
    copies: dict[int, list[int]] = {}
    for row in rows[np.argsort(rarest[rows], kind='stable')].tolist():
        copies.setdefault(row if groups is None else groups[row], []).append(
            row
        )
    for alike in copies.values():
        labels = targets[alike].sum(axis=0)
        own = labels > 0
        shares = (counts[:, own] / totals[own]).max(axis=1, initial=0)
        fold = min(range(FOLDS), key=lambda i: (shares[i], len(folds[i])))
        if (counts[fold] + labels < totals)[own].all():
            folds[fold] += alike
            counts[fold] += labels
    return [np.array(sorted(fold)) for fold in folds if fold]


def fit_scale_and_biases(
    cosines: Tensor, targets: Tensor, scale: float, *, own_biases: bool
) -> tuple[float, Tensor]:
    """Fit one scale, and biases per class or one for all.

    Args:
        cosines (Tensor): ``(N, K)``, float64.
        targets (Tensor): Which classes each image has, ``(N, K)`` booleans.
        scale (float): Where the search for the scale begins.
        own_biases (bool): Whether each class has a bias of its own.

    Returns:
        tuple[float, Tensor]: The scale and the biases ``(K,)``.
    """
    images = targets.double().sum(dim=0)
    others = len(targets) - images
    wanted = torch.where(
        targets, (images + 1) / (images + 2), 1 / (others + 2)
    )
    log_scale = cosines.new_tensor(math.log(scale), requires_grad=True)
    biases = cosines.new_zeros(
        len(images) if own_biases else 1, requires_grad=True
    )
    optimizer = torch.optim.LBFGS(
        [log_scale, biases],
        max_iter=1000,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn='strong_wolfe',
    )
    bounds = math.log(LEAST_SCALE), math.log(MOST_SCALE)
    # Cosines differ by little, and a step of the scale moves all of them.
    middle = cosines.mean(dim=0) if own_biases else cosines.mean()
    centred = cosines - middle

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = log_scale.clamp(*bounds).exp() * centred + biases
        total = F.binary_cross_entropy_with_logits(logits, wanted)
        total.backward()
        return total.detach()

    optimizer.step(loss)
    found = log_scale.detach().clamp(*bounds).exp()
    biases = biases.detach() - found * middle
    return found.item(), biases.expand(len(images))
