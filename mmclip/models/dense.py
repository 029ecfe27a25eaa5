"""Last blocks that keep patches apart, for zero-shot segmentation.

CLIP's last block gathers the image into the class token; its patches are
mixed. Without any training, these change that block so that a patch says what
there is at its place. Weights and their names stay as they are.
"""

import torch.nn.functional as F
from torch import Tensor

from mmclip.models.vit import TransformerLayer
from mmclip.pos_embed import Grid


class MaskCLIPLayer(TransformerLayer):
    """A block in which each token attends to itself only.

    Paper: Extract Free Dense Labels from CLIP
    (https://arxiv.org/abs/2112.01071).
    """

    def forward(
        self,
        x: Tensor,
        num_outputs: int | None = None,
        grid: Grid | None = None,
    ) -> Tensor:
        """Map ``(B, T, C)`` to the same shape."""
        _, _, v = self.attn.project(self.ln1(x))
        x = x + self.attn.join(v)
        return x + self.ffn(self.ln2(x))


class SCLIPLayer(TransformerLayer):
    """A block in which tokens attend to those like them.

    Like are queries to queries and keys to keys; both attentions are added.
    Paper: SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference
    (https://arxiv.org/abs/2312.01597).
    """

    def forward(
        self,
        x: Tensor,
        num_outputs: int | None = None,
        grid: Grid | None = None,
    ) -> Tensor:
        """Map ``(B, T, C)`` to the same shape."""
        q, k, v = self.attn.project(self.ln1(x))
        attended = F.scaled_dot_product_attention(q, q, v)
        attended = attended + F.scaled_dot_product_attention(k, k, v)
        x = x + self.attn.join(attended)
        return x + self.ffn(self.ln2(x))


class ClearCLIPLayer(TransformerLayer):
    """Attention of queries to queries, without what it is added to, or MLP.

    Paper: ClearCLIP: Decomposing CLIP Representations for Dense
    Vision-Language Inference (https://arxiv.org/abs/2407.12442).
    """

    def forward(
        self,
        x: Tensor,
        num_outputs: int | None = None,
        grid: Grid | None = None,
    ) -> Tensor:
        """Map ``(B, T, C)`` to the same shape."""
        q, _, v = self.attn.project(self.ln1(x))
        return self.attn.join(F.scaled_dot_product_attention(q, q, v))


DENSE: dict[str, type[TransformerLayer]] = dict(
    maskclip=MaskCLIPLayer, sclip=SCLIPLayer, clearclip=ClearCLIPLayer
)
