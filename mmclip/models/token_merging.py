"""Merging of similar tokens at inference, for speed.

Paper: Token Merging: Your ViT But Faster (https://arxiv.org/abs/2210.09461).

Shapes: B batch, N patches, T tokens that are left, C channels (the width).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmclip.models.vit import TransformerLayer, VisionTransformer
from mmclip.pos_embed import Grid


def merge_tokens(backbone: VisionTransformer, per_block: int) -> None:
    """Let a backbone merge tokens in each block, while it is in eval mode.

    Outputs have the same shapes: at the end, merged patches get the same
    vector. Weights and their names stay as they are.

    Args:
        backbone (VisionTransformer): The backbone, changed in place.
        per_block (int): How many tokens each block removes (r in the paper);
            at most half of the patches, as each merges with one that stays.

    Raises:
        ValueError: If it is not a backbone of ours, has several outputs,
            windows or ``dense``, merges tokens already, or ``per_block`` is
            negative. Also by the backbone itself, if it is to recompute blocks
            (``with_cp``) for gradients.
    """
    if not isinstance(backbone, VisionTransformer):
        raise ValueError(
            f'Tokens of a {type(backbone).__name__} cannot be merged: it is '
            'not a plain vision transformer of mmclip.'
        )
    if len(backbone.out_indices) > 1:
        raise ValueError(
            'Tokens can be merged for one output only; out_indices are '
            f'{backbone.out_indices}.'
        )
    kinds = {type(layer) for layer in backbone.layers}
    if backbone.window_size or kinds != {TransformerLayer}:
        raise ValueError(
            'Tokens can only be merged once, and neither with windows nor '
            'with dense.'
        )
    if per_block < 0:
        raise ValueError(f'per_block must not be negative, got {per_block}.')
    merging = Merging(backbone, per_block)
    blocks: Any = backbone.layers[: backbone.out_indices[-1] + 1]
    for layer in blocks:
        layer.__class__ = MergingLayer
        layer.merging = merging
        layer.is_first, layer.is_last = layer is blocks[0], layer is blocks[-1]


class MergingLayer(TransformerLayer):
    """A block whose similar tokens are averaged between attention and MLP."""

    merging: 'Merging'
    is_first: bool
    is_last: bool

    def forward(
        self,
        x: Tensor,
        num_outputs: int | None = None,
        grid: Grid | None = None,
    ) -> Tensor:
        """Map ``(B, T, C)`` to fewer tokens; the last block, to all again."""
        if self.merging.backbone.training:  # the block may be frozen
            return super().forward(x, num_outputs, grid)
        if self.is_first:
            self.merging.start(x)
        q, k, v = self.attn.project(self.ln1(x))
        attended = F.scaled_dot_product_attention(
            q[:, :, :num_outputs], k, v, attn_mask=self.merging.bias(q)
        )
        x = x[:, :num_outputs] + self.attn.join(attended)
        if num_outputs is None:
            x = self.merging.merge(x, k.mean(dim=1))
        x = x + self.ffn(self.ln2(x))
        if self.is_last and num_outputs is None:
            x = self.merging.expand(x)
        return x


class Merging:
    """The tokens of a batch that have been merged so far.

    Args:
        backbone (VisionTransformer): Whose prefix tokens are never merged.
        per_block (int): See :func:`merge_tokens`.
    """

    sizes: Tensor  # (B, T, 1), how many tokens each stands for
    places: Tensor  # (B, 1 + N), where each of the first is now

    def __init__(self, backbone: VisionTransformer, per_block: int):
        self.backbone, self.per_block = backbone, per_block
        self.num_kept = backbone.num_prefix_tokens

    def start(self, x: Tensor) -> None:
        """Begin with the tokens ``(B, T, C)`` of new images.

        Raises:
            ValueError: If blocks will be recomputed, when later ones have
                merged tokens.
        """
        if self.backbone.with_cp and torch.is_grad_enabled():
            raise ValueError(
                'Merged tokens cannot be recomputed for gradients: set '
                'with_cp=False, or use torch.no_grad().'
            )
        batch, tokens, _ = x.shape
        self.sizes = x.new_ones(batch, tokens, 1, dtype=torch.float32)
        self.places = torch.arange(tokens, device=x.device).expand(batch, -1)

    def bias(self, q: Tensor) -> Tensor | None:
        """Return what is added to scores, so that each token counts its size.

        Returns:
            Tensor | None: ``(B, 1, 1, T)``; None as long as all sizes are 1.
        """
        if self.sizes.shape[1] == self.places.shape[1]:
            return None
        return self.sizes.log().to(q.dtype).transpose(1, 2)[:, None]

    def merge(self, x: Tensor, keys: Tensor) -> Tensor:
        """Average the most similar pairs, one of each even and one odd.

        Args:
            x (Tensor): ``(B, T, C)``.
            keys (Tensor): ``(B, T, C / heads)``, whose cosine is the
                similarity.

        Returns:
            Tensor: ``(B, T - per_block, C)``, with the first tokens first.
        """
        keys = F.normalize(keys.float(), dim=-1)
        scores = keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)
        free = scores.shape[1] - (self.num_kept + 1) // 2
        count = min(self.per_block, free, scores.shape[2])
        if count <= 0:
            return x
        protected = self.num_kept
        scores[:, : (protected + 1) // 2] = -torch.inf  # even ones
        scores[:, :, : protected // 2] = -torch.inf  # odd ones
        best, partners = scores.max(dim=-1)
        order = best.argsort(dim=-1, descending=True)
        merged, stay = order[:, :count], order[:, count:].sort(dim=-1).values
        partners = partners.gather(1, merged)

        sums = torch.cat([x * self.sizes, self.sizes], dim=-1)  # float32
        even, odd = sums[:, ::2], sums[:, 1::2]
        odd = odd.scatter_add(1, _wide(partners, odd), _take(even, merged))
        sums = torch.cat([_take(even, stay), odd], dim=1)
        self.sizes = sums[..., -1:].detach()

        now = torch.empty_like(self.places[:, :1]).expand(-1, x.shape[1])
        now = now.clone()
        first_odd = stay.shape[1]
        now[:, 1::2] = first_odd + torch.arange(odd.shape[1], device=x.device)
        ranks = torch.arange(first_odd, device=x.device).expand_as(stay)
        now.scatter_(1, 2 * stay, ranks)
        now.scatter_(1, 2 * merged, first_odd + partners)
        self.places = now.gather(1, self.places)
        return (sums[..., :-1] / sums[..., -1:]).to(x.dtype)

    def expand(self, x: Tensor) -> Tensor:
        """Return ``(B, 1 + N, C)``: the vector of each first token's place."""
        return _take(x, self.places)


def _wide(index: Tensor, x: Tensor) -> Tensor:
    return index[..., None].expand(-1, -1, x.shape[-1])


def _take(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, _wide(index, x))
