"""What every method takes and gives.

A classifier is a head as mmpretrain has them, so that what is compared is
what is written, trained further and tested by the ordinary runners.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from mmclip.named_model.encoder import Projection
from mmclip.registry import MODELS
from mmclip.text.class_embeddings import ClassEmbeddings

CHUNK = 2**22  # logits that are computed at once
DELAY = 3  # seconds before there is a bar

T = TypeVar('T')


@dataclass(frozen=True)
class Encoded:
    """Images as the frozen tower sees them.

    Args:
        pooled (Tensor): Features before the projection, ``(N, C)``, float32.
        labels (Tensor): ``(N,)``, int64, from 0 to ``num_classes - 1``; or, if
            images may have several, ``(N, K)`` booleans.
        num_classes (int): K.
        projection (Projection | None): None if the tower has none; its
            features are then already in the joint space (D is C).
        text (ClassEmbeddings | None): None without a text tower.
    """

    pooled: Tensor
    labels: Tensor
    num_classes: int
    projection: Projection | None = None
    text: ClassEmbeddings | None = None

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
        note (str): What the user should know of its training.
    """

    head: nn.Module
    projection: Projection | None
    note: str = ''

    @torch.no_grad()
    def logits(self, pooled: Tensor) -> Tensor:
        """Compute the logits ``(N, K)`` of features ``(N, C)``."""
        project = self.projection or (lambda features: features)
        head: Any = self.head.eval()
        width = max(getattr(head, 'num_images', 0), head.num_classes)
        chunks = pooled.split(max(1, CHUNK // width))
        return torch.cat([head((project(some),)) for some in chunks])


def linear_classifier(
    head: str,
    weight: Tensor,
    bias: Tensor | float,
    projection: Projection | None,
) -> Classifier:
    """Return a classifier whose head has one linear layer, ``fc``.

    Args:
        head (str): The type of the head.
        weight (Tensor): ``(K, C)``, or ``(K, D)`` with a projection.
        bias (Tensor | float): ``(K,)``, or the same for all classes.
        projection (Projection | None): As in :class:`Classifier`.
    """
    num_classes, width = weight.shape
    built = MODELS.build(
        dict(type=head, num_classes=num_classes, in_channels=width)
    )
    with torch.no_grad():
        built.fc.weight.copy_(weight)
        built.fc.bias.copy_(torch.as_tensor(bias))
    return Classifier(built, projection)


class Method(ABC):
    """A way to make a classifier from features.

    Attributes:
        name (str): For files and options, such as ``'tip_adapter'``.
        title (str): For people, such as ``'Tip-Adapter'``.
        source (str): The paper.
        needs_text (bool): Whether it needs a text tower.
        needs_projection (bool): Whether it needs the tower's projection.
        tries_as_it_fits (bool): Whether cross-validation measures what
            ``fit`` makes; if not, its accuracy is not reported.
        most_images (int | None): With more training images it would be slow,
            or its head, which holds them, too large.
        most_logits (int | None): The same for images times classes.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    needs_text: ClassVar[bool] = False
    needs_projection: ClassVar[bool] = False
    tries_as_it_fits: ClassVar[bool] = True
    most_images: ClassVar[int | None] = None
    most_logits: ClassVar[int | None] = None

    def lacks(self, train: Encoded) -> str:
        """Return why this method cannot take part, or an empty string."""
        if self.needs_text and train.text is None:
            return 'the model has no text tower'
        if self.needs_projection and train.projection is None:
            return 'the model has no linear projection'
        if self.most_images is not None and len(train) > self.most_images:
            return f'more than {self.most_images:,} training images'
        logits = len(train) * train.num_classes
        if self.most_logits is not None and logits > self.most_logits:
            return (
                f'{len(train):,} images x {train.num_classes:,} classes would '
                'take too long'
            )
        return ''

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return the settings that cross-validation may choose from.

        The first ones are used where images are too few to choose.
        """
        return [{}]

    @abstractmethod
    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Make a classifier of the training images."""

    def try_all(
        self, train: Encoded, images: Encoded
    ) -> Iterator[Tensor | None]:
        """Yield the logits ``(n, K)`` of images for each settings of the grid.

        None stands for settings that are out of the question. Methods that can
        do so faster than one ``fit`` after another override it.
        """
        for settings in self.grid(train):
            yield self.fit(train, **settings).logits(images.pooled)


def progress(
    steps: Iterable[T], title: str, unit: str, number: int | None = None
) -> Iterable[T]:
    """Show a bar on a terminal if the steps take more than some seconds.

    Args:
        steps (Iterable): Steps.
        title (str): Of the method.
        unit (str): What a step is.
        number (int | None): Of steps, if they do not tell.
    """
    return tqdm(
        steps,
        f'  {title}',
        number,
        unit=unit,
        leave=False,
        disable=None,
        delay=DELAY,
    )
