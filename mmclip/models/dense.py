"""Last blocks that keep patches apart, for zero-shot segmentation.

CLIP's last block gathers the image into the class token; its patches are
mixed. Without any training, these change that block so that a patch says what
there is at its place. Weights and their names stay as they are.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mmclip.models.architecture import Architecture
from mmclip.models.vit import Attention, TransformerLayer
from mmclip.pos_embed import Grid


class MaskCLIPAttention(Attention):
    """Attention of each token to itself only.

    Paper: Extract Free Dense Labels from CLIP
    (https://arxiv.org/abs/2112.01071).
    """

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the values."""
        return v


class SCLIPAttention(Attention):
    """Attention of queries to queries and of keys to keys, added.

    Paper: SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference
    (https://arxiv.org/abs/2312.01597).
    """

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the sum of both."""
        of_queries = F.scaled_dot_product_attention(q, q, v)
        return of_queries + F.scaled_dot_product_attention(k, k, v)


class QueryAttention(Attention):
    """Attention of queries to queries."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the heads' outputs."""
        return F.scaled_dot_product_attention(q, q, v)


class ClearCLIPLayer(TransformerLayer):
    """A block that returns its attention, without its input and the MLP.

    Paper: ClearCLIP: Decomposing CLIP Representations for Dense
    Vision-Language Inference (https://arxiv.org/abs/2407.12442).
    """

    def __init__(
        self, arch: Architecture, drop_path: float, attention: Attention
    ):
        super().__init__(arch, drop_path, attention)
        for unused in self.ln2, self.ffn:
            unused.requires_grad_(False)

    def forward(
        self,
        x: Tensor,
        num_outputs: int | None = None,
        grid: Grid | None = None,
    ) -> Tensor:
        """Map ``(B, T, C)`` to the same shape."""
        return self.drop_path(self.attn(self.ln1(x)))


def _layer(
    layer: type[TransformerLayer],
    attention: type[Attention],
    arch: Architecture,
    drop_path: float,
    _: Attention,
) -> TransformerLayer:
    return layer(arch, drop_path, attention(arch))


DENSE: dict[str, Callable[..., Any]] = dict(
    maskclip=partial(_layer, TransformerLayer, MaskCLIPAttention),
    sclip=partial(_layer, TransformerLayer, SCLIPAttention),
    clearclip=partial(_layer, ClearCLIPLayer, QueryAttention),
)
