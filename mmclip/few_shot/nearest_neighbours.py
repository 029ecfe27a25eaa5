"""Votes of the nearest training images."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from mmclip.few_shot.method import Classifier, Encoded, Method
from mmclip.registry import MODELS


class NearestNeighbours(Method):
    """DINO's weighted vote, see :class:`.heads.NearestNeighboursClsHead`."""

    name = 'nearest_neighbours'
    title = 'nearest neighbours'
    source = 'arXiv 2104.14294, appendix F.1'
    most_images = 20_000
    head: ClassVar[str] = 'mmclip.NearestNeighboursClsHead'
    labels: ClassVar[str] = 'labels'  # the head's buffer for them

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return numbers of neighbours."""
        return [dict(k=k) for k in (5, 1, 10, 20)]

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Remember the training images."""
        head = MODELS.build(
            dict(
                type=self.head,
                num_classes=train.num_classes,
                in_channels=train.pooled.shape[1],
                num_images=len(train),
                k=min(settings['k'], len(train)),
            )
        )
        with torch.no_grad():
            head.keys.copy_(F.normalize(train.pooled, dim=-1))
            getattr(head, self.labels).copy_(train.labels)
        return Classifier(head, None)
