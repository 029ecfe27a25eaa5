"""The sizes and choices that fit a vision transformer to its weights."""

from dataclasses import dataclass
from typing import Any

from mmclip.errors import check_choice

# From open_clip 3.3.0's model_configs, where heads = width / head_width and
# mlp_width = int(width * mlp_ratio), and from timm's SigLIP models.
ARCH_KEYS = ('width', 'depth', 'num_heads', 'mlp_width')
ARCHS: dict[str, tuple[int, int, int, int]] = {
    'small': (384, 12, 6, 1536),
    'medium': (512, 12, 8, 2048),
    'base': (768, 12, 12, 3072),
    'base-plus': (896, 12, 14, 3584),
    'large': (1024, 24, 16, 4096),
    'so400m': (1152, 27, 16, 4304),
    'huge': (1280, 32, 16, 5120),
    'giant': (1408, 40, 16, 6144),
    'giant-opt': (1536, 40, 16, 6144),
    'gigantic': (1664, 48, 16, 8192),
    'enormous': (1792, 56, 16, 15360),
}
ALIASES = {
    's': 'small',
    'm': 'medium',
    'b': 'base',
    'l': 'large',
    'h': 'huge',
    'g': 'giant',
}


@dataclass(frozen=True)
class Architecture:
    """The sizes and choices that define a vision transformer.

    :class:`CLIPVisionTransformer` explains those that are its arguments.
    """

    width: int  # channels C of a token
    depth: int  # number of blocks
    num_heads: int
    mlp_width: int
    act: str
    img_size: int | tuple[int, int]
    patch_size: int
    norm_eps: float
    pool: str
    patch_bias: bool = False  # of the patch embedding
    class_token: bool = False  # before the patches
    pre_norm: bool = False
    layer_scale_init: float | None = None
    proj_dim: int | None = None
    proj_bias: bool = False


def parse_arch(arch: str | dict[str, Any]) -> tuple[int, int, int, int]:
    """Return the values of ``ARCH_KEYS`` for an argument ``arch``.

    Raises:
        ValueError: If it is neither a preset nor a dict of these values.
    """
    if isinstance(arch, str):
        name = ALIASES.get(arch, arch)
        check_choice('arch', name, ARCHS)
        return ARCHS[name]
    if set(arch) != set(ARCH_KEYS):
        raise ValueError(
            f'arch must have exactly the keys {", ".join(ARCH_KEYS)}; got '
            f'{", ".join(arch)}.'
        )
    if arch['width'] % arch['num_heads']:
        raise ValueError(
            f'arch: width {arch["width"]} is not a multiple of num_heads '
            f'{arch["num_heads"]}.'
        )
    return arch['width'], arch['depth'], arch['num_heads'], arch['mlp_width']
