"""Logistic regression, from scratch or on top of the zero-shot logits."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmclip.few_shot.method import (
    Classifier,
    Encoded,
    Method,
    linear_classifier,
)
from mmclip.few_shot.temperature import best_loss
from mmclip.few_shot.zero_shot import cosine_classifier
from mmclip.probing.logistic import LinearClassifier, LogisticRegression

CS = (100.0, 1000.0, 10.0, 1.0, 0.1, 0.01)
TEXT_CS = (1.0, 10.0, 100.0, 0.1)  # the first is near CLAP's of one shot
ENOUGH = 100  # images held out, from which one can tell
WORSE = 1.02  # times the least loss: a larger C is out of the question
# Images x classes x channels. 5,000 classes of 10 images and 512 channels have
# 128e9, and an evaluation of their loss takes 9 seconds of a core.
LARGE = 2**32
ROUGH_TOLERANCE = 1e-4  # of these
ROUGH_ITERATIONS = 25


class LinearProbe(Method):
    """CLIP's linear probe on the features before the projection.

    It minimises ``C * sum of cross entropies + |w|^2 / 2``, with features
    whose mean square distance from their mean is one, so that C means the
    same for each model.
    """

    name = 'linear_probe'
    title = 'linear probe'
    source = 'arXiv 2103.00020, appendix A.3'
    most_logits = 2**29  # 5,000 classes of 20 images
    head: ClassVar[str] = 'mmpretrain.LinearClsHead'

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return values of C."""
        return [dict(c=c) for c in CS]

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Fit weights and biases."""
        size, regression = self._prepare(train)
        found = regression.fit(settings['c'])
        classifier = self._classifier(train, size, found)
        if found.converged:
            return classifier
        note = 'stopped before its minimum, which would have taken too long'
        return replace(classifier, note=note)

    def try_all(
        self, train: Encoded, images: Encoded
    ) -> Iterator[Tensor | None]:
        """Start each C from the one before, and stop after the best."""
        size, regression = self._prepare(train)
        found: dict[float, Tensor] = {}
        least = math.inf
        for c in sorted(settings['c'] for settings in self.grid(train)):
            fitted = self._classifier(train, size, regression.fit(c))
            found[c] = fitted.logits(images.pooled)
            loss = best_loss(found[c], images.labels)
            least = min(least, loss)
            if len(images) > ENOUGH and loss > WORSE * least:
                break
        yield from (found.get(s['c']) for s in self.grid(train))

    def _prepare(self, train: Encoded) -> tuple[float, LogisticRegression]:
        """Return what the features are divided by, and the problem."""
        x = train.pooled
        size = (x - x.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()
        return size, LogisticRegression(
            (x / size).numpy(),
            train.labels.numpy(),
            train.num_classes,
            **_limits(train, x.shape[1]),
        )

    def _classifier(
        self, train: Encoded, size: float, found: LinearClassifier
    ) -> Classifier:
        return linear_classifier(
            self.head,
            torch.tensor(found.weight) / size,
            torch.tensor(found.bias),
            None,
        )


class TextProbe(LinearProbe):
    """A linear probe that is pulled towards the class names.

    The logits are ``s f . w_k + b_k``, where f is the feature, of length one,
    and s is CLIP's logit scale. It minimises ``C * sum of cross entropies +
    sum of |w_k - t_k|^2 / 2``, where t_k is the class embedding. This is a
    logistic regression with the zero-shot logits as a fixed offset: convex,
    with zero-shot in the limit of a small C.
    """

    name = 'text_probe'
    title = 'text probe'
    source = 'after CLAP, arXiv 2312.12730'
    needs_text = True

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return values of C."""
        return [dict(c=c) for c in TEXT_CS]

    def _prepare(self, train: Encoded) -> tuple[float, LogisticRegression]:
        assert train.text is not None
        size = 1 / train.text.logit_scale
        return size, LogisticRegression(
            (train.embedded() / size).numpy(),
            train.labels.numpy(),
            train.num_classes,
            pull=train.text.embeddings.numpy(),
            **_limits(train, train.text.embeddings.shape[1]),
        )

    def _classifier(
        self, train: Encoded, size: float, found: LinearClassifier
    ) -> Classifier:
        assert train.text is not None
        weight = torch.tensor(found.weight) / size
        bias = train.text.logit_bias + torch.tensor(found.bias)
        return cosine_classifier(weight, bias, train.projection)


def _limits(train: Encoded, channels: int) -> dict[str, Any]:
    """Return how far the solver goes, which is less far if steps are slow."""
    if len(train) * train.num_classes * channels <= LARGE:
        return {}
    return dict(tolerance=ROUGH_TOLERANCE, max_iterations=ROUGH_ITERATIONS)
