"""Logistic regression, from scratch or on top of the zero-shot logits."""

from collections.abc import Sequence
from typing import Any

import torch

from mmclip.few_shot.method import Classifier, Encoded, Method
from mmclip.few_shot.zero_shot import cosine_classifier
from mmclip.probing.logistic import fit
from mmclip.registry import MODELS

CS = (100.0, 1000.0, 10.0, 1.0, 0.1, 0.01)
TEXT_CS = (1.0, 10.0, 100.0, 0.1)  # the first is near CLAP's of one shot


class LinearProbe(Method):
    """CLIP's linear probe on the features before the projection.

    It minimises ``C * sum of cross entropies + |w|^2 / 2``, with features
    whose mean square distance from their mean is one, so that C means the
    same for each model.
    """

    name = 'linear_probe'
    title = 'linear probe'
    source = 'arXiv 2103.00020, appendix A.3'

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return values of C."""
        return [dict(c=c) for c in CS]

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Fit weights and biases."""
        x = train.pooled
        size = (x - x.mean(dim=0)).square().sum(dim=1).mean().sqrt()
        found = fit(
            (x / size).numpy(),
            train.labels.numpy(),
            train.num_classes,
            settings['c'],
        )
        head = MODELS.build(
            dict(
                type='mmpretrain.LinearClsHead',
                num_classes=train.num_classes,
                in_channels=x.shape[1],
            )
        )
        with torch.no_grad():
            head.fc.weight.copy_(torch.tensor(found.weight) / size)
            head.fc.bias.copy_(torch.tensor(found.bias))
        return Classifier(head, None)


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

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Fit what is added to the zero-shot classifier."""
        assert train.text is not None
        text = train.text
        x = text.logit_scale * train.embedded()
        found = fit(
            x.numpy(),
            train.labels.numpy(),
            train.num_classes,
            settings['c'],
            offsets=(x @ text.embeddings.T).numpy(),
        )
        weight = text.embeddings + torch.tensor(found.weight)
        bias = text.logit_bias + torch.tensor(found.bias)
        return cosine_classifier(train, text.logit_scale * weight, bias)
