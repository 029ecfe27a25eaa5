"""What must be known of an image tower besides its tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmclip.checkpoint.towers.model_configs import take_backbone
from mmclip.errors import CheckpointError
from mmclip.registry import MODELS

CLIP = 'mmclip.CLIPVisionTransformer'
SIGLIP = 'mmclip.SigLIPVisionTransformer'
OTHER = 'mmclip.OpenCLIPVisionTower'
BACKBONES = (CLIP, SIGLIP, OTHER)
_TIMM_ACTS = {
    'GELU': 'gelu',
    'GELUTanh': 'gelu_tanh',
    'QuickGELU': 'quick_gelu',
}


@dataclass(frozen=True)
class Tower:
    """An image tower of another project, as a backbone of ours.

    Args:
        library (str): ``'open_clip'``, ``'timm'`` or ``'transformers'``.
        name (str): Its name there, or that of a config file.
        tag (str | None): The pretrained tag whose settings these are.
        backbone (dict): The config of our backbone that holds it.
        img_size (int | tuple[int, int]): Image height and width in pixels.
        preprocess (dict | None): ``mean`` and ``std`` (of pixels in 0..1),
            ``interpolation``, ``resize_mode`` and, if images are resized to
            more than is cropped, ``crop_pct``; None if it is not known.
        has_classifier (bool | None): Whether timm's ``head`` is a
            classifier, and not CLIP's projection; None if the name does not
            tell. Defaults to False.
    """

    library: str
    name: str
    tag: str | None
    backbone: dict[str, Any]
    img_size: int | tuple[int, int]
    preprocess: dict[str, Any] | None
    has_classifier: bool | None = False


# A tower and its weights, which are read when they are asked for.
Source = tuple[Tower, Callable[[], Mapping[str, Tensor]]]


def build_backbone(
    cfg: Any, device: str = 'cpu', num_tensors: int | None = None
) -> Any:
    """Build one of our backbones from a config, with random weights.

    Configs may come from checkpoints: nothing else is built, nor anything
    that the checkpoint cannot fill.

    Args:
        cfg (Any): ``type`` and arguments; ``init_cfg`` is not looked at.
        device (str): ``'meta'`` for no memory. Defaults to ``'cpu'``.
        num_tensors (int | None): How many tensors there are for it, so that
            it cannot have more blocks. None if that is not known.

    Returns:
        nn.Module: The backbone.

    Raises:
        CheckpointError: If it is not one of our backbones, or cannot be
            built so.
    """
    kind = cfg.get('type') if isinstance(cfg, Mapping) else None
    if not isinstance(kind, str) or kind not in BACKBONES:
        raise CheckpointError(
            f'The backbone is a {str(kind)[:50]}, and must be one of '
            f'{", ".join(BACKBONES)}.'
        )
    cfg = take_backbone(cfg, 'The backbone')
    arch = cfg.get('arch')
    depth = arch.get('depth', 0) if isinstance(arch, dict) else 0
    if num_tensors is not None and depth > num_tensors:
        raise CheckpointError(
            f'The backbone has {depth} blocks, and there are only '
            f'{num_tensors} tensors.'
        )
    try:
        with torch.device(device):
            return MODELS.build(cfg)
    except CheckpointError:
        raise
    except Exception as error:  # of open_clip's and timm's modules, any
        raise CheckpointError(
            f'The backbone cannot be built: {error}'
        ) from error


def backbone_from_timm(vit: Any) -> dict[str, Any] | None:
    """The config of our backbone that holds a vision transformer of timm.

    Args:
        vit (nn.Module): A ``VisionTransformer`` of timm, on any device.

    Returns:
        dict | None: ``type`` and arguments; None if it is none of CLIP's or
        SigLIP's form.
    """
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import Block, VisionTransformer

    if type(vit) is not VisionTransformer:
        return None
    block: Any = vit.blocks[0]
    patch_embed = vit.patch_embed
    if type(block) is not Block or type(patch_embed) is not PatchEmbed:
        return None
    mlp: Any = block.mlp
    common = dict(
        arch=dict(
            width=vit.embed_dim,
            depth=len(vit.blocks),
            num_heads=block.attn.num_heads,
            mlp_width=mlp.fc1.out_features,
        ),
        act=_TIMM_ACTS.get(type(mlp.act).__name__),
        img_size=_one_or_two(patch_embed.img_size),
        patch_size=patch_embed.patch_size[0],
        norm_eps=getattr(vit.norm, 'eps', None),
    )
    plain = (
        common['act'] is not None
        and common['norm_eps'] is not None
        and vit.pos_embed is not None
        and not vit.no_embed_class
        and vit.num_reg_tokens == 0
        and isinstance(vit.fc_norm, nn.Identity)
        and isinstance(block.attn.q_norm, nn.Identity)
        and isinstance(block.ls1, nn.Identity)
        and patch_embed.patch_size[0] == patch_embed.patch_size[1]
    )
    has_bias = patch_embed.proj.bias is not None
    has_pre_norm = isinstance(vit.norm_pre, nn.LayerNorm)
    pool = {'map': 'attention', 'avg': 'avg'}.get(vit.global_pool)
    if not plain:
        return None
    if vit.cls_token is not None and vit.global_pool == 'token':
        if has_bias:
            return None
        return dict(
            type=CLIP, **common, pre_norm=has_pre_norm, pool='cls_token'
        )
    if vit.cls_token is None and has_bias and not has_pre_norm and pool:
        return dict(type=SIGLIP, **common, pool=pool)
    return None


def _one_or_two(size: tuple[int, int]) -> int | tuple[int, int]:
    height, width = size
    return height if height == width else (height, width)
