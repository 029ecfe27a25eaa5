"""What every method takes and gives.

A classifier is a head as mmpretrain has them, so that what is compared is
what is written, trained further and tested by the ordinary runners.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Projection:
    """The linear layer into CLIP's joint space.

    Args:
        weight (Tensor): ``(C, D)``.
        bias (Tensor | None): ``(D,)``, None if it has none.
    """

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, pooled: Tensor) -> Tensor:
        """Project ``(N, C)`` to ``(N, D)``."""
        projected = pooled @ self.weight
        return projected if self.bias is None else projected + self.bias


@dataclass(frozen=True)
class Text:
    """What CLIP's text tower says of the classes.

    Args:
        embeddings (Tensor): ``(K, D)``, of length one.
        logit_scale (float): The factor of cosines.
        logit_bias (float): Added afterwards; zero except for SigLIP.
    """

    embeddings: Tensor
    logit_scale: float
    logit_bias: float = 0.0


@dataclass(frozen=True)
class Encoded:
    """Images as the frozen tower sees them.

    Args:
        pooled (Tensor): Features before the projection, ``(N, C)``, float32.
        labels (Tensor): ``(N,)``, int64, from 0 to ``num_classes - 1``.
        num_classes (int): K.
        projection (Projection | None): None if the tower has none; its
            features are then already in the joint space (D is C).
        text (Text | None): None without a text tower.
    """

    pooled: Tensor
    labels: Tensor
    num_classes: int
    projection: Projection | None = None
    text: Text | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Any) -> 'Encoded':
        """Return some of the images."""
        rows = torch.as_tensor(rows)
        return replace(
            self, pooled=self.pooled[rows], labels=self.labels[rows]
        )

    def embedded(self) -> Tensor:
        """Return features of length one in the joint space, ``(N, D)``."""
        if self.projection is None:
            return F.normalize(self.pooled, dim=-1)
        return F.normalize(self.projection(self.pooled), dim=-1)


@dataclass(frozen=True)
class Classifier:
    """A trained head, and the projection below it.

    Args:
        head (nn.Module): A head of mmpretrain's kind: it takes a tuple whose
            last entry is ``(B, C)``, or ``(B, D)`` with a projection.
        projection (Projection | None): The tower's, or one that replaces it;
            None if the head takes features before the projection.
    """

    head: nn.Module
    projection: Projection | None

    @torch.no_grad()
    def logits(self, pooled: Tensor) -> Tensor:
        """Compute the logits ``(N, K)`` of features ``(N, C)``."""
        project = self.projection
        features = pooled if project is None else project(pooled)
        return self.head.eval()((features,))


class Method(ABC):
    """A way to make a classifier from features.

    Attributes:
        name (str): For files and options, such as ``'tip_adapter'``.
        title (str): For people, such as ``'Tip-Adapter'``.
        source (str): The paper.
        needs_text (bool): Whether it needs a text tower.
        needs_projection (bool): Whether it needs the tower's projection.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    needs_text: ClassVar[bool] = False
    needs_projection: ClassVar[bool] = False

    def fits(self, images: Encoded) -> bool:
        """Tell whether the model has what this method needs."""
        return (images.text is not None or not self.needs_text) and (
            images.projection is not None or not self.needs_projection
        )

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return the settings that cross-validation may choose from.

        The first ones are used where images are too few to choose.
        """
        return [{}]

    @abstractmethod
    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Make a classifier of the training images."""
