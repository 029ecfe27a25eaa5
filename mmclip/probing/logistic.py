"""Logistic regression on frozen features, as in the CLIP paper.

Source: arXiv 2103.00020, appendix A.3: L-BFGS with at most 1,000 iterations,
and a sweep of the L2 regularisation on a validation split.

Shapes: N samples, C channels, K classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, log

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from torch import Tensor
from tqdm import tqdm

from mmclip.errors import DataError

MAX_ITERATIONS = 1000
MAX_HALVINGS = 10  # of a step
DELAY = 3  # seconds before there is a bar
HISTORY = 10  # steps, scipy's default
TOLERANCE = 1e-7  # of the loss, or of what was gained
CHUNK = 2**24  # logits in memory at once
SMALL = 2**30  # products per evaluation, up to which float64 takes no time
STEPS = 96  # from 1e-6 to 1e6, 8 per decade
FIRST_STRIDE = 16  # 2 decades


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
        chunks = (
            F.linear(_tensor(features[rows]), weight, bias)
            for rows in _chunks(len(features), len(weight))
        )
        return torch.cat(list(chunks))


@dataclass(frozen=True)
class Trial:
    """The result of one strength of regularisation.

    Args:
        c (float): The inverse strength, scikit-learn's ``C``.
        accuracy (float): Top-1 in percent on the validation split.
        loss (float): Mean cross entropy there.
        converged (bool): As in :class:`LinearClassifier`.
    """

    c: float
    accuracy: float
    loss: float
    converged: bool


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
        max_iterations (int): After which the solver stops in any case.
            Defaults to 1,000.

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
        max_iterations: int = MAX_ITERATIONS,
    ):
        self._tolerance = TOLERANCE if tolerance is None else tolerance
        self._max_iterations = max_iterations
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
        for rows in _chunks(number, self._num_classes):
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


def minimize(
    loss_and_gradient: Callable[[Tensor], tuple[float, Tensor]],
    start: Tensor,
    curvature: Tensor,
    highest: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, int]:
    """Minimise a convex function by L-BFGS with backtracking.

    torch's L-BFGS takes no Hessian to start from, and its first step is so
    short that a warm start is half lost.

    Source: Nocedal and Wright, Numerical Optimization, algorithms 7.4, 3.1.

    Args:
        loss_and_gradient (Callable): The function.
        start (Tensor): Where it begins.
        curvature (Tensor): The diagonal of the Hessian there, or nearly.
        highest (float): What one has without minimising.
        tolerance (float): See :class:`LogisticRegression`.
        max_iterations (int): See there.

    Returns:
        tuple[Tensor, int]: The minimum and the number of iterations.
    """
    theta, (loss, gradient) = start, loss_and_gradient(start)
    steps: list[Tensor] = []
    changes: list[Tensor] = []  # of the gradient
    counted = tqdm(
        range(max_iterations),
        '  L-BFGS',
        total=inf,  # it mostly ends long before the last
        unit='iteration',
        leave=False,
        disable=None,
        delay=DELAY,
    )
    for iteration in counted:
        direction = _newton_step(gradient, steps, changes, curvature)
        slope = _dot(gradient, direction)
        # About half of it is left to gain. All that there is to gain is tiny
        # where C is small, and the loss where C is large.
        if -slope <= tolerance * min(loss, highest - loss):
            return theta, iteration
        for power in range(MAX_HALVINGS):
            step = direction / 2**power
            new_loss, new_gradient = loss_and_gradient(theta + step)
            if new_loss <= loss + 1e-4 * slope / 2**power:
                break
        else:  # the rest is rounding
            return theta, iteration
        steps = [*steps[1 - HISTORY :], step]
        changes = [*changes[1 - HISTORY :], new_gradient - gradient]
        theta, loss, gradient = theta + step, new_loss, new_gradient
    return theta, max_iterations


def _newton_step(
    gradient: Tensor,
    steps: list[Tensor],
    changes: list[Tensor],
    curvature: Tensor,
) -> Tensor:
    """Return minus the inverse of the Hessian times the gradient."""
    past = [(s, y, _dot(s, y)) for s, y in zip(steps, changes, strict=True)]
    direction, shares = -gradient, []
    for step, change, product in reversed(past):
        shares.append(_dot(step, direction) / product)
        direction = direction - shares[-1] * change
    direction = direction / curvature
    if past:
        _, change, product = past[-1]
        direction *= product / _dot(change, change / curvature)
    for step, change, product in past:
        share = shares.pop() - _dot(change, direction) / product
        direction += share * step
    return direction


def _dot(one: Tensor, other: Tensor) -> float:
    return torch.dot(one.flatten(), other.flatten()).item()


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    c: float,
    *,
    pull: np.ndarray | None = None,
) -> LinearClassifier:
    """Fit one ``C``, see :class:`LogisticRegression`."""
    return LogisticRegression(features, labels, num_classes, pull=pull).fit(c)


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
    for rows in _chunks(len(labels), len(classifier.weight)):
        scores = classifier.scores(features[rows])
        targets = torch.tensor(labels[rows])
        right.append(scores.argmax(dim=1) == targets)
        loss += F.cross_entropy(scores, targets, reduction='sum').item()
    whole = torch.cat(right)
    accuracy = 100 * whole.double().mean().item()
    return Trial(c, accuracy, loss / len(labels), classifier.converged), whole


def _tensor(features: np.ndarray) -> Tensor:
    """Copy to a tensor, since torch cannot share a read-only memory map."""
    return torch.tensor(np.asarray(features))


def _chunks(number: int, num_classes: int) -> Iterator[slice]:
    size = max(1, CHUNK // num_classes)
    for start in range(0, number, size):
        yield slice(start, start + size)
