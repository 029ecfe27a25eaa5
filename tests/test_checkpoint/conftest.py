"""What the tests of several sources of weights need."""

import torch
from torch import nn

from mmclip.checkpoint.towers.tower import build_backbone

SMALL = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=32,
    patch_size=8,
)


def randomized(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def feature(checkpoint: dict, x: torch.Tensor) -> torch.Tensor:
    """Of a converted checkpoint's own backbone."""
    backbone = build_backbone(checkpoint['meta']['clip']['backbone'])
    backbone.load_state_dict(
        {
            key.removeprefix('backbone.'): tensor
            for key, tensor in checkpoint['state_dict'].items()
            if key.startswith('backbone.')
        }
    )
    with torch.no_grad():
        return backbone.eval()(x)[0]
