"""Our backbone for a model config of open_clip."""

import copy
import dataclasses
import re
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch

from mmclip.checkpoint.towers.timm import backbone_from_timm
from mmclip.checkpoint.towers.tower import CLIP, OTHER, SIGLIP, TIMM_TOWER

# The fields of open_clip's CLIPVisionCfg that our backbone supports, or that
# change neither the weights nor the image feature (the last two), with their
# defaults.
NATIVE: dict[str, Any] = dict(
    layers=12,
    width=768,
    head_width=64,
    mlp_ratio=4.0,
    patch_size=16,
    image_size=224,
    ls_init_value=None,
    norm_kwargs=None,
    no_ln_pre=False,
    pool_type='tok',
    final_ln_after_pool=False,
    attentional_pool=False,
    patch_dropout=0.0,
    output_tokens=False,
)


def backbone_from_open_clip(
    model_cfg: dict[str, Any], quick_gelu: bool
) -> dict[str, Any]:
    """Return our backbone's config for a model config of open_clip."""
    from mmclip.models.library_towers.open_clip_tower import tower_config

    vision_cfg, embed_dim = model_cfg['vision_cfg'], model_cfg['embed_dim']
    act = 'quick_gelu' if quick_gelu else 'gelu'
    if vision_cfg.keys() <= NATIVE.keys():
        backbone = _native(
            SimpleNamespace(**NATIVE | vision_cfg), embed_dim, act
        )
    else:
        backbone = _special(vision_cfg, embed_dim, act)
    return backbone or dict(
        type=OTHER,
        model=tower_config(model_cfg | dict(quick_gelu=quick_gelu)),
    )


def _special(
    vision_cfg: dict[str, Any], embed_dim: int, act: str
) -> dict[str, Any] | None:
    """Return the config for other fields, None if ours differs."""
    from open_clip.model import CLIPVisionCfg

    cfg = CLIPVisionCfg(**vision_cfg)
    if cfg.timm_model_name:
        return _timm_trunk(cfg, embed_dim)
    if any(
        getattr(cfg, field.name) != field.default
        for field in dataclasses.fields(cfg)
        if field.name not in NATIVE
    ):
        return None
    return _native(cfg, embed_dim, act)


def _native(cfg: Any, embed_dim: int, act: str) -> dict[str, Any] | None:
    """Return the config for open_clip's own ViT, None if ours differs."""
    if not isinstance(cfg.layers, int):  # a ResNet
        return None
    norm_kwargs = dict(cfg.norm_kwargs or {})
    norm_eps = norm_kwargs.pop('eps', 1e-5)
    pool = _pool(cfg)
    if norm_kwargs or pool is None:
        return None
    return dict(
        type=CLIP,
        arch=dict(
            width=cfg.width,
            depth=cfg.layers,
            num_heads=cfg.width // cfg.head_width,
            mlp_width=int(cfg.width * cfg.mlp_ratio),
        ),
        act=act,
        img_size=cfg.image_size,
        patch_size=cfg.patch_size,
        norm_eps=norm_eps,
        pre_norm=not cfg.no_ln_pre,
        pool=pool,
        layer_scale_init=cfg.ls_init_value,
        proj_dim=embed_dim,
    )


def _pool(cfg: Any) -> str | None:
    """Return our name for a pooling in open_clip's ``VisionTransformer``."""
    if cfg.attentional_pool:
        plain = cfg.attentional_pool is True and cfg.pool_type == 'tok'
        return 'attention' if plain else None
    if cfg.pool_type == 'tok':
        return 'cls_token'
    is_clipa = cfg.pool_type == 'avg' and cfg.final_ln_after_pool
    return 'avg' if is_clipa else None


def _timm_trunk(cfg: Any, embed_dim: int) -> dict[str, Any] | None:
    """Return the config for a bare trunk of timm, None if ours differs."""
    if (
        re.fullmatch(r'naflexvit_\w+_siglip', cfg.timm_model_name)
        and (cfg.timm_pool, cfg.timm_proj) == ('map', 'none')
        and not getattr(cfg, 'timm_model_kwargs', None)
    ):
        return dict(
            type=TIMM_TOWER,
            model=cfg.timm_model_name,
            img_size=cfg.image_size,
        )
    if cfg.timm_proj not in ('none', '', None) or not (
        cfg.timm_model_name.startswith('vit_')
        and cfg.timm_pool in ('token', 'map', 'avg')
    ):
        return None
    num_classes = 0 if cfg.timm_proj == 'none' else embed_dim
    backbone = copy.deepcopy(
        _plain_trunk(cfg.timm_model_name, num_classes, cfg.timm_pool)
    )
    if backbone is not None and cfg.timm_proj != 'none':
        if backbone['type'] == SIGLIP:
            return None  # ours has no projection
        backbone |= dict(proj_dim=embed_dim, proj_bias=True)
    return backbone


@cache  # shared by several names and all their tags
def _plain_trunk(
    name: str, num_classes: int, global_pool: str
) -> dict[str, Any] | None:
    import timm

    with torch.device('meta'):
        trunk = timm.create_model(
            name, num_classes=num_classes, global_pool=global_pool
        )
    return backbone_from_timm(trunk)
