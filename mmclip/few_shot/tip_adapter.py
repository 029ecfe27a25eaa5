"""Tip-Adapter: CLIP's zero-shot logits plus those of a cache of images.

Source: arXiv 2207.09519; github.com/gaopengcuhk/Tip-Adapter, ``main.py`` and
``utils.py``. Two differences: images are encoded once, without random crops;
and alpha and beta are chosen by cross-validation inside the training images,
where the authors search on the validation (for ImageNet, the test) images.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from mmclip.few_shot.method import Classifier, Encoded, Method
from mmclip.registry import MODELS

ALPHAS = (1.0, 0.3, 3.0, 10.0)
BETAS = (5.5, 1.0, 15.0)  # 5.5 is the paper's for ImageNet
EPOCHS = 20
BATCH_SIZE = 256
LR = 1e-3
EPS = 1e-4


class TipAdapter(Method):
    """The training-free version."""

    name = 'tip_adapter'
    title = 'Tip-Adapter'
    source = 'arXiv 2207.09519'
    needs_text = True

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return values of alpha and beta."""
        return [dict(alpha=a, beta=b) for a in ALPHAS for b in BETAS]

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
                **settings,
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


class TipAdapterF(TipAdapter):
    """The fine-tuned version: the keys of the cache are trained."""

    name = 'tip_adapter_f'
    title = 'Tip-Adapter-F'

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return values of alpha; beta starts at the authors' 1."""
        return [dict(alpha=alpha, beta=1.0) for alpha in ALPHAS]

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Train the keys with AdamW and a cosine schedule, as the authors."""
        classifier = super().fit(train, **settings)
        head: Any = classifier.head
        features = train.embedded()
        optimizer = torch.optim.AdamW([head.keys], lr=LR, eps=EPS)
        batches = -(-len(train) // BATCH_SIZE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, EPOCHS * batches
        )
        random = torch.Generator().manual_seed(0)
        for _ in range(EPOCHS):
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
