"""Tip-Adapter: CLIP's zero-shot logits plus those of a cache of images.

Source: arXiv 2207.09519; github.com/gaopengcuhk/Tip-Adapter, ``main.py`` and
``utils.py``. Images are encoded once, without random crops, and alpha and beta
are chosen by cross-validation inside the training images, where the authors
search on the validation (for ImageNet, the test) images.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mmclip.few_shot.method import Classifier, Encoded, Method, progress
from mmclip.registry import MODELS

STRENGTHS = (0.3, 0.0, 0.1, 1.0, 3.0, 10.0)
BETAS = (5.5, 1.0, 2.5, 12.0, 25.0)  # 5.5 is the paper's for ImageNet
EPOCHS = 20
BATCH_SIZE = 256
LR = 1e-3
EPS = 1e-4


class TipAdapter(Method):
    """The training-free version.

    The cache sums over images and is added to logits of any scale, so alpha
    is given as a strength: ``alpha = strength * logit_scale / S``, with S
    images per class. It then means the same in each fold and for each model.
    """

    name = 'tip_adapter'
    title = 'Tip-Adapter'
    source = 'arXiv 2207.09519'
    needs_text = True
    most_images = 20_000
    strengths: ClassVar[tuple[float, ...]] = STRENGTHS

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return strengths of the cache, and values of beta."""
        return [
            dict(strength=s, beta=b) for b in BETAS for s in self.strengths
        ]

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Put the training images into the cache."""
        assert train.text is not None
        features = train.embedded()
        head = MODELS.build(
            dict(
                type='mmclip.TipAdapterClsHead',
                num_classes=train.num_classes,
                in_channels=features.shape[1],
                num_images=len(train),
                alpha=_alpha(train, settings['strength']),
                beta=settings['beta'],
            )
        )
        with torch.no_grad():
            head.keys.copy_(features)
            head.labels.copy_(train.labels)
            head.fc.weight.copy_(
                train.text.logit_scale * train.text.embeddings
            )
            head.fc.bias.fill_(train.text.logit_bias)
        return Classifier(head, train.projection)

    def try_all(self, train: Encoded, images: Encoded) -> Iterator[Tensor]:
        """Compute the cosines once, and the cache once per beta."""
        logits = self.fit(train, strength=0.0, beta=1.0).logits(images.pooled)
        cosines = images.embedded() @ train.embedded().T
        for beta in BETAS:
            near = (-beta * (1 - cosines)).exp()
            cache = torch.zeros_like(logits).index_add(1, train.labels, near)
            for strength in self.strengths:
                yield logits + _alpha(train, strength) * cache


class TipAdapterF(TipAdapter):
    """The fine-tuned version: the keys of the cache are trained."""

    name = 'tip_adapter_f'
    title = 'Tip-Adapter-F'
    tries_as_it_fits = False
    most_images = 2_000
    strengths = tuple(s for s in STRENGTHS if s > 0)

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Train the keys with AdamW and a cosine schedule, as the authors.

        The settings are those that are best before training: cross-validation
        does not train. Without a cache there would be nothing to train.
        """
        classifier = super().fit(train, **settings)
        head: Any = classifier.head
        features = train.embedded()
        optimizer = torch.optim.AdamW([head.keys], lr=LR, eps=EPS)
        batches = -(-len(train) // BATCH_SIZE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, EPOCHS * batches
        )
        random = torch.Generator().manual_seed(0)
        for _ in progress(range(EPOCHS), self.title, 'epoch'):
            order = torch.randperm(len(train), generator=random)
            for rows in order.split(BATCH_SIZE):
                loss = F.cross_entropy(
                    head((features[rows],)), train.labels[rows]
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return classifier


def _alpha(train: Encoded, strength: float) -> float:
    assert train.text is not None
    shots = len(train) / train.num_classes
    return strength * train.text.logit_scale / shots
