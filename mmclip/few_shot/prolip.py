"""ProLIP: CLIP's own projection, tuned on a few images.

Source: arXiv 2410.05270; github.com/astra-vision/ProLIP,
``methods/ProLIP.py``. Images are encoded once, without random crops.
"""

from typing import Any

import torch
import torch.nn.functional as F

from mmclip.few_shot.method import (
    Classifier,
    Encoded,
    Method,
    progress,
)
from mmclip.few_shot.zero_shot import cosine_classifier
from mmclip.named_model.encoder import Projection

STEPS = 300
LR = 1e-3  # 1e-4 to 1e-2 do equally well in the authors' table
EPS = 1e-4
BATCH_SIZE = 1024


class ProLIP(Method):
    """Train the projection V on the loss ``CE + |V - V0|^2 / S``.

    S is the number of images per class, and the classifier is the zero-shot
    one. This is the paper's setting without validation images: nothing is
    chosen.
    """

    name = 'prolip'
    title = 'ProLIP'
    source = 'arXiv 2410.05270'
    needs_text = True
    needs_projection = True

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Run 300 steps of Adam with a cosine schedule.

        A step sees all images, as the authors', or 1,024 of more.
        """
        assert train.text is not None and train.projection is not None
        start, text = train.projection, train.text
        shots = len(train) / train.num_classes
        weight = start.weight.clone().requires_grad_()
        optimizer = torch.optim.Adam([weight], lr=LR, eps=EPS)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        random = torch.Generator().manual_seed(0)
        for _ in progress(range(STEPS), self.title, 'step'):
            rows = torch.randperm(len(train), generator=random)[:BATCH_SIZE]
            projected = Projection(weight, start.bias)(train.pooled[rows])
            cosines = F.normalize(projected, dim=-1) @ text.embeddings.T
            loss = F.cross_entropy(
                text.logit_scale * cosines + text.logit_bias,
                train.labels[rows],
            )
            pull = (weight - start.weight).square().sum()
            optimizer.zero_grad()
            (loss + pull / shots).backward()
            optimizer.step()
            schedule.step()
        tuned = Projection(weight.detach(), start.bias)
        return cosine_classifier(
            text.logit_scale * text.embeddings, text.logit_bias, tuned
        )
