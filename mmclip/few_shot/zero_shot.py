"""CLIP's zero-shot classifier: the class names alone."""

from typing import Any

import torch
from torch import Tensor

from mmclip.few_shot.method import Classifier, Encoded, Method, Text
from mmclip.registry import MODELS


class ZeroShot(Method):
    """Classify by the embeddings of the class names; no image is used."""

    name = 'zero_shot'
    title = 'zero-shot'
    source = 'arXiv 2103.00020'
    needs_text = True

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Return the classifier that the names make."""
        assert train.text is not None
        text = train.text
        return cosine_classifier(
            train, text.logit_scale * text.embeddings, text
        )


def cosine_classifier(
    train: Encoded, weight: Tensor, text: Text
) -> Classifier:
    """Return a linear classifier of features of length one.

    Args:
        train (Encoded): Whose projection it uses.
        weight (Tensor): ``(K, D)``, times the logit scale.
        text (Text): Whose bias it uses.
    """
    num_classes, width = weight.shape
    head = MODELS.build(
        dict(
            type='mmclip.ZeroShotClsHead',
            num_classes=num_classes,
            in_channels=width,
        )
    )
    with torch.no_grad():
        head.fc.weight.copy_(weight)
        head.fc.bias.fill_(text.logit_bias)
    return Classifier(head, train.projection)
