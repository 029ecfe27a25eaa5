"""Logistic regression on frozen features, as in the CLIP paper.

Source: arXiv 2103.00020, appendix A.3: L-BFGS with at most 1,000 iterations.

Shapes: N samples, C channels, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from torch import Tensor

from mmclip.errors import DataError
from mmclip.probing.lbfgs import minimize

MAX_ITERATIONS = 1000
TOLERANCE = 1e-7  # of the loss, or of what was gained
CHUNK = 2**24  # logits in memory at once
SMALL = 2**30  # products per evaluation, up to which float64 takes no time


@dataclass(frozen=True)
class LinearClassifier:
    """A linear layer.

    Args:
        weight (np.ndarray): ``(K, C)``, float32.
        bias (np.ndarray): ``(K,)``, float32.
        converged (bool): Whether the solver finished before its last
            iteration.
    """

    weight: np.ndarray
    bias: np.ndarray
    converged: bool

    def scores(self, features: np.ndarray) -> Tensor:
        """Compute the logits ``(N, K)`` of features ``(N, C)``, on the CPU."""
        weight, bias = torch.tensor(self.weight), torch.tensor(self.bias)
        parts = (
            F.linear(_tensor(features[rows]), weight, bias)
            for rows in chunks(len(features), len(weight))
        )
        return torch.cat(list(parts))


class LogisticRegression:
    """Logistic regressions on the same samples, for one ``C`` after another.

    Each starts from that of the nearest ``C`` before it. L-BFGS works on the
    principal axes of the features, and is given the diagonal of the Hessian
    there, as if all samples had the mean ``p (1 - p)`` of each class: so it
    needs a fraction of the iterations.

    It is computed in float64 if the problem is small and there is no GPU,
    otherwise in float32. Besides the features and some copies of the weights,
    memory holds the logits of a chunk of the samples.

    Args:
        features (np.ndarray): ``(N, C)``.
        labels (np.ndarray): ``(N,)``, from 0 to ``num_classes - 1``; or
            which labels each image has, ``(N, K)`` booleans, for a logistic
            regression per class.
        num_classes (int): K.
        pull (np.ndarray | None): Weights ``(K, C)`` that the layer's are
            drawn to. Defaults to None: zeros.
        tolerance (float | None): The share of the loss, or of what was
            gained, that may be left to gain. Defaults to None: 1e-7.
        max_iterations (int | None): After which the solver stops in any case.
            Defaults to None: 1,000.

    Raises:
        DataError: If a class has no sample.
    """

    def __init__(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        *,
        pull: np.ndarray | None = None,
        tolerance: float | None = None,
        max_iterations: int | None = None,
    ):
        self._tolerance = TOLERANCE if tolerance is None else tolerance
        self._max_iterations = (
            MAX_ITERATIONS if max_iterations is None else max_iterations
        )
        several = labels.ndim == 2
        used = np.flatnonzero(labels.any(axis=0)) if several else labels
        missing = sorted(set(range(num_classes)) - set(used.tolist()))
        if missing:
            raise DataError(
                f'{len(missing)} of {num_classes} classes have no training '
                f'images, such as number {missing[0]}; add some, or leave '
                'these classes out.'
            )
        device = get_device()
        x = _tensor(features).to(device)
        small = device == 'cpu' and x.numel() * num_classes <= SMALL
        x = x.double() if small else x.float()
        self._mean = x.mean(dim=0)
        x -= self._mean
        if len(x) < x.shape[1]:  # the weights lie in the span of the samples
            _, lengths, axes = torch.linalg.svd(x, full_matrices=False)
            self._variances, self._axes = lengths.square() / len(x), axes.T
        else:
            covariance = (x.T @ x / len(x)).double()
            variances, axes = torch.linalg.eigh(covariance)
            self._variances = variances.clamp(min=0).to(x)
            self._axes = axes.to(x)
        self._x = x @ self._axes  # (N, C), or (N, N)
        self._y = torch.tensor(labels, device=device)
        self._errors = _sigmoid_errors if several else _softmax_errors
        # For two classes, our two opposite rows have half the squared norm of
        # their difference, which is scikit-learn's single row.
        self._rows_per_norm = 2 if num_classes == 2 and not several else 1
        self._num_classes = num_classes
        self._whole_pull = x.new_zeros(num_classes, x.shape[1])
        if pull is not None:
            self._whole_pull = _tensor(pull).to(x)
        self._pull = self._whole_pull @ self._axes
        self._found: dict[float, Tensor] = {}

    def fit(self, c: float) -> LinearClassifier:
        """Minimise ``C * sum of cross entropies + |weights - pull|^2 / 2``.

        This equals scikit-learn's ``LogisticRegression(C=c)``, even for two
        classes, where scikit-learn has one row of weights.

        Args:
            c (float): scikit-learn's ``C``.
        """
        decay = self._rows_per_norm / (c * len(self._x))
        theta = self._start(c)
        loss, _, spread = self._loss(theta, decay)
        if not self._found:
            self._highest = loss
        spread = spread.clamp(min=1e-6 / self._num_classes)  # (K,)
        curvature = spread[:, None] * self._variances + decay  # (K, C)
        theta, iterations = minimize(
            lambda theta: self._loss(theta, decay)[:2],
            theta,
            torch.cat([curvature, spread[:, None]], dim=1),
            self._highest,
            self._tolerance,
            self._max_iterations,
        )
        self._found[c] = theta
        weight, bias = theta[:, :-1], theta[:, -1]
        weight = self._whole_pull + (weight - self._pull) @ self._axes.T
        bias = bias - weight @ self._mean
        if self._errors is _softmax_errors:
            bias -= bias.mean()  # a number for all classes changes nothing
        return LinearClassifier(
            weight.float().cpu().numpy(),
            bias.float().cpu().numpy(),
            iterations < self._max_iterations,
        )

    def _start(self, c: float) -> Tensor:
        """Return what was found for the nearest C, or else the pull."""
        if not self._found:
            zeros = self._pull.new_zeros(self._num_classes, 1)
            return torch.cat([self._pull, zeros], dim=1)
        return self._found[min(self._found, key=lambda o: abs(log(o / c)))]

    def _loss(
        self, theta: Tensor, decay: float
    ) -> tuple[float, Tensor, Tensor]:
        """Return the mean loss, its gradient, and the mean p (1 - p).

        Args:
            theta (Tensor): Weights, and biases as the last column.
            decay (float): The strength of the pull.
        """
        weight, bias = theta[:, :-1], theta[:, -1]
        number = len(self._x)
        moved = weight - self._pull
        loss = decay / 2 * moved.square().sum().item()
        gradient, spread = torch.zeros_like(theta), torch.zeros_like(bias)
        for rows in chunks(number, self._num_classes):
            x = self._x[rows]
            logits = F.linear(x, weight, bias)
            losses, wrong, spreads = self._errors(logits, self._y[rows])
            loss += losses / number
            spread += spreads
            gradient[:, :-1] += wrong.T @ x
            gradient[:, -1] += wrong.sum(dim=0)
        gradient /= number
        gradient[:, :-1] += decay * moved
        return loss, gradient, spread / number


def _softmax_errors(
    logits: Tensor, labels: Tensor
) -> tuple[float, Tensor, Tensor]:
    """Return the sum of the cross entropies and what follows from it.

    Args:
        logits (Tensor): ``(n, K)``; its memory is used again.
        labels (Tensor): ``(n,)``.

    Returns:
        tuple[float, Tensor, Tensor]: The sum, its gradient ``(n, K)``, and the
        sums of ``p (1 - p)``, ``(K,)``.
    """
    totals = logits.logsumexp(dim=1, keepdim=True)
    losses = totals - logits.gather(1, labels[:, None])
    shares = logits.sub_(totals).exp_()
    spread = shares.sum(dim=0) - torch.linalg.vecdot(shares, shares, dim=0)
    wrong = shares.scatter_add_(1, labels[:, None], -torch.ones_like(totals))
    return losses.sum(dtype=torch.float64).item(), wrong, spread


def _sigmoid_errors(
    logits: Tensor, targets: Tensor
) -> tuple[float, Tensor, Tensor]:
    """Do the same for sigmoids, with targets ``(n, K)`` of booleans."""
    loss = F.binary_cross_entropy_with_logits(
        logits, targets.to(logits), reduction='none'
    ).sum(dtype=torch.float64)
    shares = logits.sigmoid_()
    spread = shares.sum(dim=0) - torch.linalg.vecdot(shares, shares, dim=0)
    return loss.item(), shares - targets.to(shares), spread


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    c: float,
) -> LinearClassifier:
    """Fit one ``C``, see :class:`LogisticRegression`."""
    return LogisticRegression(features, labels, num_classes).fit(c)


def _tensor(features: np.ndarray) -> Tensor:
    """Copy to a tensor, since torch cannot share a read-only memory map."""
    return torch.tensor(np.asarray(features))


def chunks(number: int, num_classes: int) -> Iterator[slice]:
    """Yield rows, as many as have logits that fit into memory."""
    size = max(1, CHUNK // num_classes)
    for start in range(0, number, size):
        yield slice(start, start + size)
