"""Parameters and multiply-accumulate operations of a model."""

from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Complexity:
    """What one image costs.

    Args:
        params (int): Number of parameters.
        macs (int): Multiply-accumulate operations of convolutions, linear
            layers and attention (both products); no norms, softmax,
            activations or additions. The tables of the field call this FLOPs.
    """

    params: int
    macs: int


def count_complexity(cfg: Config, size: tuple[int, int]) -> Complexity:
    """Count for the model of a config, without memory for its weights.

    Args:
        cfg (Config): A config with a ``model`` whose forward takes a batch.
        size (tuple[int, int]): Image height and width in pixels.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        image = torch.zeros(1, 3, *size)
    # The counter stumbles over modules that are called with a parameter.
    model.requires_grad_(False)
    # torch counts a multiplication and an addition as two.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return Complexity(
        params=sum(p.numel() for p in model.parameters()),
        macs=counter.get_total_flops() // 2,
    )


def image_size(cfg: Config) -> tuple[int, int]:
    """The image size that a config's backbone is made for, in pixels."""
    size = cfg.model.backbone.img_size
    return (size, size) if isinstance(size, int) else tuple(size)
