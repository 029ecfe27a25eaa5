"""ProLIP: CLIP's own projection, tuned on a few images.

Source: arXiv 2410.05270; github.com/astra-vision/ProLIP,
``methods/ProLIP.py``. Images are encoded once, without random crops.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from mmclip.few_shot.method import Classifier, Encoded, Method, Projection
from mmclip.few_shot.zero_shot import cosine_classifier

STEPS = 300
LR = 1e-3  # 1e-4 to 1e-2 do equally well in the authors' table
EPS = 1e-4
STRENGTHS = (1.0, 0.1, 10.0)


class ProLIP(Method):
    """Train the projection V on the loss ``CE + s / S * |V - V0|^2``.

    S is the number of images per class, and the classifier is the zero-shot
    one. The strength s is 1 in the paper's validation-free setting.
    """

    name = 'prolip'
    title = 'ProLIP'
    source = 'arXiv 2410.05270'
    needs_text = True
    needs_projection = True

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return strengths of the pull towards CLIP's projection."""
        return [dict(strength=strength) for strength in STRENGTHS]

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Run 300 full-batch steps of Adam with a cosine schedule."""
        assert train.text is not None and train.projection is not None
        start, text = train.projection, train.text
        shots = len(train) / train.num_classes
        weight = start.weight.clone().requires_grad_()
        optimizer = torch.optim.Adam([weight], lr=LR, eps=EPS)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            f = F.normalize(Projection(weight, start.bias)(train.pooled))
            logits = text.logit_scale * f @ text.embeddings.T + text.logit_bias
            loss = F.cross_entropy(logits, train.labels)
            pull = (weight - start.weight).square().sum()
            optimizer.zero_grad()
            (loss + settings['strength'] / shots * pull).backward()
            optimizer.step()
            schedule.step()
        tuned = Projection(weight.detach(), start.bias)
        return cosine_classifier(
            replace(train, projection=tuned),
            text.logit_scale * text.embeddings,
            text,
        )
