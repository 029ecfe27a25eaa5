"""Logistic regression on the features before the projection."""

from collections.abc import Sequence
from typing import Any

import torch

from mmclip.few_shot.method import Classifier, Encoded, Method
from mmclip.probing.logistic import fit
from mmclip.registry import MODELS


class LinearProbe(Method):
    """CLIP's linear probe, see :mod:`mmclip.probing.logistic`."""

    name = 'linear_probe'
    title = 'linear probe'
    source = 'arXiv 2103.00020, appendix A.3'

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return values of ``C``, two per decade."""
        steps = sorted(range(-6, 7), key=abs)
        return [dict(c=10 ** (step / 2)) for step in steps]

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Minimise the cross entropy with an L2 penalty of strength 1 / C."""
        found = fit(
            train.pooled.numpy(),
            train.labels.numpy(),
            train.num_classes,
            settings['c'],
        )
        num_classes, width = found.weight.shape
        head = MODELS.build(
            dict(
                type='mmpretrain.LinearClsHead',
                num_classes=num_classes,
                in_channels=width,
            )
        )
        with torch.no_grad():
            head.fc.weight.copy_(torch.tensor(found.weight))
            head.fc.bias.copy_(torch.tensor(found.bias))
        return Classifier(head, None)
