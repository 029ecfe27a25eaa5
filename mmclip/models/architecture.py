"""What the weights of a vision transformer are made for."""

from dataclasses import dataclass
from typing import Any

from mmclip.errors import check_choice

# Numbers of open_clip 3.3.0's model_configs, where heads = width / head_width
# and mlp_width = int(width * mlp_ratio), and of timm's SigLIP models.
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
    """The numbers and choices that shape a vision transformer.

    Args:
        width (int): Channels C of a token.
        depth (int): Number of blocks.
        num_heads (int): Attention heads of a block.
        mlp_width (int): Channels between the two layers of a block's MLP.
        act (str): Activation of the MLPs.
        img_size (int | tuple[int, int]): Image height and width in pixels
            that the position embedding is made for.
        patch_size (int): Patch height and width in pixels.
        norm_eps (float): Epsilon of every LayerNorm.
        pool (str): How the tokens become one vector.
        patch_bias (bool): Whether the patch embedding has a bias.
        class_token (bool): Whether a class token precedes the patches.
        pre_norm (bool): Whether there is a norm before the first block.
        layer_scale_init (float | None): Initial value of LayerScale; None
            for blocks without it.
        proj_dim (int | None): Width D of the projection after the final
            norm; None for no projection.
        proj_bias (bool): Whether that projection has a bias.
    """

    width: int
    depth: int
    num_heads: int
    mlp_width: int
    act: str
    img_size: int | tuple[int, int]
    patch_size: int
    norm_eps: float
    pool: str
    patch_bias: bool = False
    class_token: bool = False
    pre_norm: bool = False
    layer_scale_init: float | None = None
    proj_dim: int | None = None
    proj_bias: bool = False


def parse_arch(arch: str | dict[str, Any]) -> tuple[int, int, int, int]:
    """The numbers of ``ARCH_KEYS`` that an argument ``arch`` means.

    Raises:
        ValueError: If it is not a preset, or not these numbers.
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
