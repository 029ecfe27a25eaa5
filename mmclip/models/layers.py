"""What the blocks of CLIP's and SigLIP's vision transformers are made of.

The nesting of the modules gives mmpretrain's parameter names.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth


class QuickGELU(nn.Module):
    """The sigmoid approximation of GELU that OpenAI's CLIP was trained with.

    Source: ``QuickGELU`` in ``clip/model.py`` of openai/CLIP.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply it element by element."""
        return x * torch.sigmoid(1.702 * x)


ACTS: dict[str, Callable[[], nn.Module]] = {
    'gelu': nn.GELU,
    'gelu_tanh': partial(nn.GELU, approximate='tanh'),
    'quick_gelu': QuickGELU,
}


class PatchEmbed(nn.Module):
    """Cut an image into patches and project each."""

    def __init__(self, width: int, patch_size: int, bias: bool):
        super().__init__()
        self.projection = nn.Conv2d(
            3, width, kernel_size=patch_size, stride=patch_size, bias=bias
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 3, height, width)`` to ``(B, N, C)``."""
        return self.projection(x).flatten(2).transpose(1, 2)


class TransformerLayer(nn.Module):
    """A pre-norm block: attention and MLP, each added to its input."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_width: int,
        *,
        act: str,
        norm_eps: float,
        layer_scale_init: float | None,
        drop_path: float,
    ):
        super().__init__()
        self.ln1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, num_heads, layer_scale_init)
        self.ln2 = nn.LayerNorm(width, eps=norm_eps)
        self.ffn = MLP(width, mlp_width, act, layer_scale_init)
        self.drop_path = StochasticDepth(drop_path, mode='row')

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, C)``, T tokens, to the same shape."""
        x = x + self.drop_path(self.attn(self.ln1(x)))
        return x + self.drop_path(self.ffn(self.ln2(x)))


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for q, k and v."""

    def __init__(
        self, width: int, num_heads: int, layer_scale_init: float | None
    ):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.gamma1 = _layer_scale(width, layer_scale_init)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, C)`` to the same shape."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, T, C / heads)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.gamma1(self.proj(x.transpose(1, 2).flatten(2)))


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(
        self,
        width: int,
        mlp_width: int,
        act: str,
        layer_scale_init: float | None,
    ):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(width, mlp_width), ACTS[act]()),
            nn.Linear(mlp_width, width),
        )
        self.gamma2 = _layer_scale(width, layer_scale_init)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, C)`` to the same shape."""
        return self.gamma2(self.layers(x))


class LayerScale(nn.Module):
    """A learned factor per channel (https://arxiv.org/abs/2103.17239)."""

    def __init__(self, width: int, init_value: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), init_value))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the last dimension, of size C."""
        return x * self.weight


def _layer_scale(width: int, init_value: float | None) -> nn.Module:
    return (
        nn.Identity() if init_value is None else LayerScale(width, init_value)
    )
