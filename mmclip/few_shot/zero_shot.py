"""CLIP's zero-shot classifier: the class names alone."""

from typing import Any

from torch import Tensor

from mmclip.few_shot.method import (
    Classifier,
    Encoded,
    Method,
    linear_classifier,
)
from mmclip.named_model.encoder import Projection


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
        weight = text.logit_scale * text.embeddings
        return cosine_classifier(weight, text.logit_bias, train.projection)


def cosine_classifier(
    weight: Tensor, bias: Tensor | float, projection: Projection | None
) -> Classifier:
    """Return a linear classifier of features of length one.

    Args:
        weight (Tensor): ``(K, D)``, times the logit scale.
        bias (Tensor | float): ``(K,)``, or the same for all classes.
        projection (Projection | None): As in :class:`.method.Classifier`.
    """
    return linear_classifier(
        'mmclip.ZeroShotClsHead', weight, bias, projection
    )
