"""Heads that hold the training images."""

from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from mmclip.registry import MODELS
from mmclip.text.zero_shot_head import ZeroShotClsHead

TEMPERATURE = 0.07  # DINO's


@MODELS.register_module()
class NearestNeighboursClsHead(ClsHead):
    """Classify by a vote of the most similar training images.

    Each neighbour votes with weight ``exp(cosine / 0.07)`` (DINO, arXiv
    2104.14294). The logits are the logarithms of each class's share of the
    votes, so their softmax is that share; a class without votes has a
    thousandth of one class's even share, or its logarithm would be infinite.

    Args:
        num_classes (int): K.
        in_channels (int): C.
        num_images (int): The number of training images.
        k (int): The number of neighbours.
        **kwargs: As in mmpretrain's ``ClsHead``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_images: int,
        k: int,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.num_images, self.k = num_images, k
        self.register_buffer('keys', torch.zeros(num_images, in_channels))
        self.register_buffer(
            'labels', torch.zeros(num_images, dtype=torch.int64)
        )

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the last feature ``(B, C)``, with length one."""
        return F.normalize(feats[-1], dim=-1)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Compute ``(B, K)`` logarithms of shares of the votes."""
        cosines = self.pre_logits(feats) @ self.keys.T  # (B, N)
        cosines, nearest = cosines.topk(self.k)  # (B, k)
        votes = (cosines / TEMPERATURE).softmax(dim=1)  # (B, k)
        shares = votes.new_zeros(len(votes), self.num_classes)
        shares = shares.scatter_add(1, self.labels[nearest], votes)
        return shares.clamp(min=1e-3 / self.num_classes).log()


@MODELS.register_module()
class TipAdapterClsHead(ZeroShotClsHead):
    """CLIP's zero-shot logits plus those of a cache of training images.

    ``logits + alpha * exp(-beta * (1 - f keys^T)) onehot(labels)``, where f
    is the feature, of length one (Tip-Adapter, arXiv 2207.09519, equation
    6). ``keys`` is trained by Tip-Adapter-F; ``fc`` holds the class
    embeddings and is frozen.

    Args:
        num_classes (int): K.
        in_channels (int): D.
        num_images (int): The number of training images N.
        alpha (float): The weight of the cache.
        beta (float): How fast it falls with the distance.
        **kwargs: As in mmpretrain's ``LinearClsHead``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_images: int,
        alpha: float,
        beta: float,
        **kwargs: Any,
    ):
        super().__init__(num_classes, in_channels, **kwargs)
        self.num_images, self.alpha, self.beta = num_images, alpha, beta
        self.fc.requires_grad_(False)
        self.keys = nn.Parameter(torch.zeros(num_images, in_channels))
        self.register_buffer(
            'labels', torch.zeros(num_images, dtype=torch.int64)
        )

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Compute the logits ``(B, K)``."""
        feature = self.pre_logits(feats)  # (B, D)
        near = (-self.beta * (1 - feature @ self.keys.T)).exp()  # (B, N)
        logits = self.fc(feature)
        cache = torch.zeros_like(logits).index_add(1, self.labels, near)
        return logits + self.alpha * cache
