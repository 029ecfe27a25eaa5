"""Small towers, and images for them."""

import torch
from torch import nn

from mmclip.models import CLIPVisionTransformer

TINY = dict(width=32, depth=4, num_heads=2, mlp_width=64)


def tiny(cls: type[nn.Module] = CLIPVisionTransformer, **changes) -> nn.Module:
    """The same random weights each time, of four narrow blocks."""
    torch.manual_seed(0)
    defaults = dict(arch=TINY, act='gelu', img_size=32, patch_size=8)
    return cls(**(defaults | changes))


def images(height: int = 32, width: int = 0, batch: int = 2) -> torch.Tensor:
    """The same random pixels each time; squares, unless told otherwise."""
    generator = torch.Generator().manual_seed(1)
    size = (batch, 3, height, width or height)
    return torch.randn(*size, generator=generator)
