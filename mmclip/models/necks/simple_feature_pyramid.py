"""A pyramid of feature maps from the last map of a plain transformer."""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmclip.registry import MODELS

# By the factor of the map's sides: how often they are doubled, or halved.
STEPS = {4: 2, 2: 1, 1: 0, 0.5: -1}


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """The simple feature pyramid of ViTDet, for detectors.

    Paper: Exploring Plain Vision Transformer Backbones for Object Detection
    (https://arxiv.org/abs/2203.16527). All levels come from the last map: it
    is enlarged by transposed convolutions or reduced by max pooling, then
    projected (1x1) and smoothed (3x3), each with a norm over channels.

    Args:
        in_channels (int): Channels C of the map: the backbone's width.
        out_channels (int): Channels D of every level. Defaults to 256.
        scales (Sequence[float]): Factors 4, 2, 1 or 0.5 of the map's sides,
            in the order of the levels. Defaults to all four: strides of 4, 8,
            16 and 32 pixels for patches of 16.
        num_outs (int): The number of levels; those beyond ``scales`` take
            every other value of the level before. Defaults to 5.
        init_cfg (dict | list[dict] | None): See mmengine. Defaults to None.

    Raises:
        ValueError: If a scale is another, or there are fewer levels than
            scales.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int = 5,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if not scales or any(scale not in STEPS for scale in scales):
            raise ValueError(
                f'scales must be of 4, 2, 1 and 0.5, got {list(scales)}.'
            )
        if num_outs < len(scales):
            raise ValueError(
                f'num_outs={num_outs} is less than the {len(scales)} scales.'
            )
        self.levels = nn.ModuleList(
            nn.Sequential(*_resize(in_channels, STEPS[scale], out_channels))
            for scale in scales
        )
        self.extra = nn.MaxPool2d(kernel_size=1, stride=2)
        self.num_extra = num_outs - len(scales)

    def forward(self, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
        """Make the levels.

        Args:
            inputs (Sequence[Tensor]): Maps of the backbone, the last
                ``(B, C, H, W)``; a pair of a map and a class token counts as
                the map.

        Returns:
            tuple[Tensor, ...]: One map of D channels per level.
        """
        x = inputs[-1] if isinstance(inputs[-1], Tensor) else inputs[-1][0]
        outs = [level(x) for level in self.levels]
        for _ in range(self.num_extra):
            outs.append(self.extra(outs[-1]))
        return tuple(outs)


@MODELS.register_module()
class ChannelNorm(nn.LayerNorm):
    """A LayerNorm over the channels of each place of ``(B, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; the shape stays."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _resize(channels: int, steps: int, out_channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for step in range(steps):  # halves the channels as it doubles the sides
        half = channels // 2
        layers.append(nn.ConvTranspose2d(channels, half, 2, stride=2))
        if step < steps - 1:
            layers += [ChannelNorm(half, eps=1e-6), nn.GELU()]
        channels = half
    if steps < 0:
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return [
        *layers,
        nn.Conv2d(channels, out_channels, 1, bias=False),
        ChannelNorm(out_channels, eps=1e-6),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        ChannelNorm(out_channels, eps=1e-6),
    ]
