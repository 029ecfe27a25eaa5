"""Logistic regression on frozen features, as in the CLIP paper.

Source: arXiv 2103.00020, appendix A.3: L-BFGS with at most 1,000 iterations,
and a sweep of the L2 regularisation on a validation split.

Shapes: N samples, C channels, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from torch import Tensor

from mmclip.errors import DataError

MAX_ITERATIONS = 1000
TOLERANCE = 1e-5  # of the gradient, with whitened features
LEAST_CHANGE = 1e-9  # of the mean loss, torch's default
CHUNK = 2**16  # samples whose logits are in memory at once
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
            F.linear(_tensor(features[start : start + CHUNK]), weight, bias)
            for start in range(0, len(features), CHUNK)
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


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    c: float,
    *,
    offsets: np.ndarray | None = None,
) -> LinearClassifier:
    """Minimise ``C * sum of cross entropies + squared norm of weights / 2``.

    This equals scikit-learn's ``LogisticRegression(C=c)``, even for two
    classes, where scikit-learn has one row of weights. It is computed in
    float32 on a GPU if there is one, otherwise in float64 on the CPU.

    If images may have several labels, the cross entropies are those of each
    class's sigmoid, so each class is a logistic regression of its own.

    L-BFGS works on whitened features, for which the Hessian at zero is nearly
    the identity. It then needs a fraction of the iterations, and a small
    gradient means that the minimum is near.

    Args:
        features (np.ndarray): ``(N, C)``.
        labels (np.ndarray): ``(N,)``, from 0 to ``num_classes - 1``; or
            which labels each image has, ``(N, K)`` booleans.
        num_classes (int): K.
        c (float): scikit-learn's ``C``.
        offsets (np.ndarray | None): Known logits ``(N, K)``, to which the
            layer's are added. Defaults to None.

    Raises:
        DataError: If a class has no sample.
    """
    several = labels.ndim == 2
    used = np.flatnonzero(labels.any(axis=0)) if several else labels
    missing = sorted(set(range(num_classes)) - set(used.tolist()))
    if missing:
        raise DataError(
            f'{len(missing)} of {num_classes} classes have no training '
            f'images, such as number {missing[0]}; add some, or leave these '
            'classes out.'
        )
    device = get_device()
    x = _tensor(features).to(device)
    x = x.double() if device == 'cpu' else x.float()
    y = torch.tensor(labels, device=device)
    known = None if offsets is None else _tensor(offsets).to(x)
    # For two classes, our two opposite rows have half the squared norm of
    # their difference, which is scikit-learn's single row.
    opposite = num_classes == 2 and not several
    weight_decay = (2 if opposite else 1) / (c * len(x))
    mean = x.mean(dim=0)
    x = x - mean
    if len(x) < x.shape[1]:  # the weights lie in the span of the samples
        _, lengths, axes = torch.linalg.svd(x, full_matrices=False)
        variances, axes = lengths.square() / len(x), axes.T
    else:
        variances, axes = torch.linalg.eigh(x.T @ x / len(x))
    # The largest slope of a sigmoid, and a softmax's without knowledge.
    slope = 1 / 4 if several else 1 / num_classes
    scales = (variances.clamp(min=0) * slope + weight_decay).rsqrt()
    whiten = axes * scales  # (C, C), or (C, N)
    x = x @ whiten
    weight = x.new_zeros(num_classes, x.shape[1], requires_grad=True)
    bias = x.new_zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MAX_ITERATIONS,
        max_eval=15 * MAX_ITERATIONS,  # scipy's default
        tolerance_grad=TOLERANCE,
        tolerance_change=LEAST_CHANGE,
        history_size=10,  # scipy's default
        line_search_fn='strong_wolfe',
    )

    def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
        if several:
            return F.binary_cross_entropy_with_logits(
                logits, y.to(logits), reduction='sum'
            )
        return F.cross_entropy(logits, y, reduction='sum')

    def mean_loss() -> Tensor:
        optimizer.zero_grad()
        total = weight_decay / 2 * (weight * scales).square().sum()
        total.backward()
        total = total.detach()
        for start in range(0, len(x), CHUNK):
            rows = slice(start, start + CHUNK)
            logits = F.linear(x[rows], weight, bias)
            if known is not None:
                logits = logits + known[rows]
            loss = cross_entropy(logits, y[rows]) / len(x)
            loss.backward()
            total += loss.detach()
        return total

    optimizer.step(mean_loss)
    weight, bias = weight.detach() @ whiten.T, bias.detach()
    return LinearClassifier(
        weight.float().cpu().numpy(),
        (bias - weight @ mean).float().cpu().numpy(),
        optimizer.state_dict()['state'][0]['n_iter'] < MAX_ITERATIONS,
    )


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
    open.

    Args:
        fit_one (Callable): Trains a classifier with a given ``C``.
        features (np.ndarray): Features of the validation split, ``(N, C)``.
        labels (np.ndarray): Their labels, ``(N,)``.
        report (Callable): A function to call after each trial.

    Returns:
        list[Trial]: The trials, best first.
    """
    trials: dict[int, Trial] = {}
    stride = FIRST_STRIDE
    candidates = list(range(0, STEPS + 1, stride))
    while stride >= 1:
        for step in candidates:
            if step in range(STEPS + 1) and step not in trials:
                trials[step] = _try(
                    10 ** (step / 8 - 6), fit_one, features, labels
                )
                report(trials[step])
        best = min(trials, key=lambda step: _rank(trials[step]))
        stride //= 2
        candidates = [best - stride, best + stride]
    return sorted(trials.values(), key=_rank)


def _rank(trial: Trial) -> tuple[float, float]:
    return -trial.accuracy, trial.loss


def _try(
    c: float,
    fit_one: Callable[[float], LinearClassifier],
    features: np.ndarray,
    labels: np.ndarray,
) -> Trial:
    classifier = fit_one(c)
    scores, targets = classifier.scores(features), torch.tensor(labels)
    right = (scores.argmax(dim=1) == targets).float().mean().item()
    loss = F.cross_entropy(scores, targets).item()
    return Trial(c, 100 * right, loss, classifier.converged)


def _tensor(features: np.ndarray) -> Tensor:
    """Copy to a tensor, since torch cannot share a read-only memory map."""
    return torch.tensor(np.asarray(features))
