"""LP++: a linear probe that blends image prototypes and class embeddings.

Source: arXiv 2404.02285; github.com/FereshteShakeri/FewShot-CLIP-Strong-
Baseline, ``methods/linear_probe_p2.py`` and ``methods/utils.py``. Images are
encoded once, without random crops, and the number of steps is chosen by
cross-validation, where the authors use validation images.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmclip.few_shot.method import (
    CHUNK,
    Classifier,
    Encoded,
    Method,
    progress,
)
from mmclip.few_shot.zero_shot import cosine_classifier

STEPS = (300, 100, 30, 10, 0)
ALPHA_SCALE = 250.0
ALPHA_EVERY = 10  # steps of the weights between two of the blend


class LPPlusPlus(Method):
    """Logits ``f . (w_k + alpha_k t_k) + b_k``, trained from a good start.

    f is the feature and t_k the class embedding, both of length one. w starts
    as the sum of a class's features, alpha as 250 times the mean cosine of
    images and their classes, and the step sizes come from the data.
    """

    name = 'lp_plus_plus'
    title = 'LP++'
    source = 'arXiv 2404.02285'
    needs_text = True
    most_logits = 2**24  # 1,000 classes of 16 images; each step sees all

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return numbers of steps."""
        return [dict(steps=steps) for steps in STEPS]

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Run full-batch gradient descent in two blocks."""
        return next(_descend(train, [settings['steps']]))

    def try_all(self, train: Encoded, images: Encoded) -> Iterator[Tensor]:
        """Look at the classifier along one descent."""
        found = {
            steps: classifier.logits(images.pooled)
            for steps, classifier in zip(
                sorted(STEPS), _descend(train, sorted(STEPS)), strict=True
            )
        }
        yield from (found[steps] for steps in STEPS)


def _descend(train: Encoded, stops: Sequence[int]) -> Iterator[Classifier]:
    """Yield the classifier after each of some numbers of steps."""
    assert train.text is not None
    f, t = train.embedded(), train.text.embeddings
    number = len(train)
    weight = torch.zeros_like(t).index_add_(0, train.labels, f)  # not means
    bias = torch.zeros(train.num_classes)
    largest_square, of_class = _cosines(train, f)
    alpha = torch.full((train.num_classes,), ALPHA_SCALE * of_class)
    lr = 4 * number / torch.linalg.eigvalsh(f.T @ f)[-1].item()
    optimizer = torch.optim.SGD([weight, bias], lr=lr, momentum=0.9)
    alpha_lr = number / (4 * largest_square)
    # The authors never reset alpha's gradient, so each of its steps uses the
    # sum of all gradients so far; without that it hardly moves.
    alpha_gradient = torch.zeros_like(alpha)
    steps = range(stops[-1] + 1)
    for step in progress(steps, LPPlusPlus.title, 'step'):
        if step:
            blended = weight + alpha[:, None] * t
            by_weight, by_bias = _gradients(f, train.labels, blended, bias)
            weight.grad, bias.grad = by_weight, by_bias
            alpha_gradient += (by_weight * t).sum(dim=1)
            optimizer.step()
        if step and step % ALPHA_EVERY == 0:
            alpha -= alpha_lr * alpha_gradient
        if step in stops:
            blended = weight + alpha[:, None] * t
            yield cosine_classifier(blended, bias, train.projection)


def _cosines(train: Encoded, f: Tensor) -> tuple[float, float]:
    """Sum up the cosines of images and classes, some images at a time.

    Returns:
        tuple[float, float]: The largest sum of squares of a class; and the
        mean cosine of images and their class, over the classes.
    """
    assert train.text is not None
    squares = torch.zeros(train.num_classes)
    own = torch.zeros(train.num_classes)
    for some, labels in _chunks(f, train.labels, train.num_classes):
        cosines = some @ train.text.embeddings.T
        squares += cosines.square().sum(dim=0)
        own.index_add_(0, labels, cosines.gather(1, labels[:, None])[:, 0])
    counts = train.labels.bincount(minlength=train.num_classes)
    return squares.max().item(), (own / counts).mean().item()


def _gradients(
    f: Tensor, labels: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Return those of the mean cross entropy, by weight and bias."""
    by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    for some, of_some in _chunks(f, labels, len(bias)):
        wrong = F.linear(some, weight, bias).softmax(dim=1)
        wrong[torch.arange(len(some)), of_some] -= 1
        by_weight.addmm_(wrong.T, some, alpha=1 / len(f))
        by_bias += wrong.sum(dim=0) / len(f)
    return by_weight, by_bias


def _chunks(
    f: Tensor, labels: Tensor, num_classes: int
) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, CHUNK // num_classes)
    return zip(f.split(size), labels.split(size), strict=True)
