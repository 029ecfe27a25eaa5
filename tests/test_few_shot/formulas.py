"""The methods once more, in float64 and from their papers' formulas."""

import numpy as np
from torch import Tensor

from mmclip.few_shot.method import Encoded


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


class Arrays:
    """The parts of :class:`Encoded` as numpy arrays in float64."""

    def __init__(self, images: Encoded):
        self.x = images.pooled.double().numpy()
        self.y = images.labels.numpy()
        self.one_hot = np.eye(images.num_classes)[self.y]
        assert images.projection is not None and images.text is not None
        self.v = images.projection.weight.double().numpy()
        self.f = unit(self.x @ self.v)
        self.t = images.text.embeddings.double().numpy()
        self.scale = images.text.logit_scale
        self.bias = images.text.logit_bias
        self.shots = len(images) / images.num_classes

    def embed(self, new: Tensor) -> np.ndarray:
        return unit(new.double().numpy() @ self.v)


class Adam:
    """arXiv 1412.6980, algorithm 1, with a cosine schedule to zero.

    ``decay`` is that of AdamW (arXiv 1711.05101, algorithm 2).
    """

    def __init__(self, steps: int, lr: float, eps: float, decay: float = 0):
        self.steps, self.lr, self.eps, self.decay = steps, lr, eps, decay
        self.step, self.mean, self.square = 0, 0.0, 0.0

    def __call__(self, value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        lr = self.lr * (1 + np.cos(np.pi * self.step / self.steps)) / 2
        self.step += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean = self.mean / (1 - 0.9**self.step)
        square = self.square / (1 - 0.999**self.step)
        value = value - lr * self.decay * value
        return value - lr * mean / (np.sqrt(square) + self.eps)


def zero_shot(train: Encoded, new: Tensor) -> np.ndarray:
    a = Arrays(train)
    return a.scale * a.embed(new) @ a.t.T + a.bias


def neighbours(
    train: Encoded, new: Tensor, k: int, temperature: float = 0.07
) -> np.ndarray:
    """Return shares of votes: DINO, arXiv 2104.14294, appendix F.1."""
    a = Arrays(train)
    shares = np.zeros((len(new), train.num_classes))
    for row, feature in enumerate(unit(new.double().numpy())):
        cosines = [feature @ key for key in unit(a.x)]
        for i in sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]:
            shares[row, a.y[i]] += np.exp(cosines[i] / temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    return np.maximum(shares, 1e-3 / train.num_classes)


def tip_adapter(
    train: Encoded,
    new: Tensor,
    alpha: float,
    beta: float,
    keys: np.ndarray | None = None,
) -> np.ndarray:
    """arXiv 2207.09519, equations 4 to 6."""
    a = Arrays(train)
    logits = zero_shot(train, new)
    for row, feature in enumerate(a.embed(new)):
        for key, label in zip(a.f if keys is None else keys, a.y, strict=True):
            logits[row, label] += alpha * np.exp(-beta * (1 - feature @ key))
    return logits


def tip_adapter_f(
    train: Encoded, alpha: float, beta: float, decay: float = 0.01
) -> np.ndarray:
    """Return trained keys; one batch holds all images, as in ``main.py``."""
    a = Arrays(train)
    keys = a.f.copy()
    adam = Adam(20, 1e-3, 1e-4, decay)
    for _ in range(20):
        near = np.exp(-beta * (1 - a.f @ keys.T))  # (N, N)
        logits = a.scale * a.f @ a.t.T + a.bias + alpha * near @ a.one_hot
        wrong = (softmax(logits) - a.one_hot) / len(a.y)
        slopes = wrong[:, a.y] * alpha * beta * near  # of image, key
        keys = adam(keys, slopes.T @ a.f)
    return keys


def lp_plus_plus(
    train: Encoded, new: Tensor, steps: int, *, sum_gradients: bool = True
) -> np.ndarray:
    """arXiv 2404.02285, as in ``methods/linear_probe_p2.py``."""
    a = Arrays(train)
    cosines = a.f @ a.t.T
    w = np.array([a.f[a.y == k].sum(axis=0) for k in range(len(a.t))])
    b, alpha = np.zeros(len(a.t)), np.zeros(len(a.t))
    alpha += 250 * np.mean(
        [cosines[a.y == k, k].mean() for k in range(len(a.t))]
    )
    lr = 4 * len(a.y) / np.linalg.eigvalsh(a.f.T @ a.f).max()
    alpha_lr = len(a.y) / (4 * (cosines**2).sum(axis=0).max())
    w_speed, b_speed, alpha_gradient = 0.0, 0.0, 0.0
    for step in range(1, steps + 1):
        logits = a.f @ w.T + alpha * cosines + b
        wrong = (softmax(logits) - a.one_hot) / len(a.y)
        w_speed = 0.9 * w_speed + wrong.T @ a.f
        b_speed = 0.9 * b_speed + wrong.sum(axis=0)
        gradient = (wrong * cosines).sum(axis=0)
        alpha_gradient = gradient + sum_gradients * alpha_gradient
        w, b = w - lr * w_speed, b - lr * b_speed
        if step % 10 == 0:
            alpha = alpha - alpha_lr * alpha_gradient
    return a.embed(new) @ (w + alpha[:, None] * a.t).T + b


def prolip(
    train: Encoded, new: Tensor, strength: float, eps: float = 1e-4
) -> np.ndarray:
    """arXiv 2410.05270, as in ``methods/ProLIP.py``, with lr 1e-3."""
    a = Arrays(train)
    v = a.v.copy()
    adam = Adam(300, 1e-3, eps)
    for _ in range(300):
        u = a.x @ v
        f = unit(u)
        wrong = softmax(a.scale * f @ a.t.T + a.bias) - a.one_hot
        g = a.scale * wrong @ a.t / len(a.y)  # of the loss, by f
        across = g - f * (g * f).sum(axis=1, keepdims=True)
        across = across / np.linalg.norm(u, axis=1, keepdims=True)
        v = adam(v, a.x.T @ across + 2 * strength / a.shots * (v - a.v))
    new_f = unit(new.double().numpy() @ v)
    return a.scale * new_f @ a.t.T + a.bias
