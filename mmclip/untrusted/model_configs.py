"""Permitted values in model configs: open_clip's, and our own backbones'.

No real model comes near the bounds on numbers. They keep a config from
allocating more memory than a machine has before any weights are compared.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from mmclip.errors import CheckpointError
from mmclip.untrusted.rules import (
    FLAG,
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_PIXELS,
    MOST_TOKENS,
    MOST_WORDS,
    NAME,
    OBJECT,
    PIXELS,
    SIZE,
    SPREADS,
    Check,
    choice,
    either,
    is_whole,
    number,
    optional,
    several,
    take,
    take_all,
    whole,
)


def is_timm_model(name: Any) -> bool:
    """Return whether a name is timm's own, not an address or a folder."""
    import timm

    return (
        isinstance(name, str)
        and re.fullmatch(r'[\w.-]+', name) is not None
        and timm.is_model(name)
    )


@cache
def _text_models_of_open_clip() -> set[str]:
    import open_clip

    configs = map(open_clip.get_model_config, open_clip.list_models())
    return {
        cfg.get('text_cfg', {}).get('hf_model_name')
        for cfg in configs
        if cfg is not None
    }


PREPROCESS = dict(
    mean=PIXELS,
    std=SPREADS,
    interpolation=choice(
        'bilinear', 'bicubic', 'random', 'nearest', 'lanczos'
    ),
    resize_mode=choice('shortest', 'longest', 'squash'),
)
# Fifty times the table of open_clip's largest tower.
MOST_IN_TABLE = 2**24


def _are_indices(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(
        is_whole(value, -MOST_LAYERS, MOST_LAYERS) for value in values
    )


_BLOCK: dict[str, Check] = dict(
    act_kwargs=optional(OBJECT),
    norm_kwargs=optional(OBJECT),
    block_type=optional(choice('default', 'custom')),
    qk_norm=FLAG,
    scaled_cosine_attn=FLAG,
    scale_heads=FLAG,
    scale_attn_inner=FLAG,
    scale_attn=FLAG,
    scale_fc=FLAG,
    ls_init_value=optional(number(0, 1e3)),
    final_ln_after_pool=FLAG,
    output_tokens=FLAG,
    width=whole(MOST_CHANNELS),
    mlp_ratio=number(0, 64),
)
# The fields of open_clip's CLIPVisionCfg and CLIPTextCfg.
VISION: dict[str, Check] = _BLOCK | dict(
    layers=either(whole(MOST_LAYERS), several(whole(MOST_LAYERS), 4)),
    head_width=whole(MOST_CHANNELS),
    patch_size=optional(whole(MOST_PIXELS)),
    image_size=SIZE,
    image_seq_len=optional(whole(MOST_TOKENS)),
    patch_dropout=number(0, 1),
    attentional_pool=either(FLAG, choice('parallel', 'cascade')),
    attn_pooler_queries=whole(MOST_TOKENS),
    attn_pooler_heads=whole(MOST_CHANNELS),
    no_ln_pre=FLAG,
    pos_embed_type=choice('learnable', 'sin_cos_2d'),
    pool_type=choice('tok', 'avg', 'none'),
    timm_model_name=(
        lambda v: v in (None, '') or is_timm_model(v),
        "a model name of timm, such as 'vit_base_patch16_224'",
    ),
    timm_model_pretrained=FLAG,
    timm_pool=choice('', 'avg', 'map', 'token', 'abs_attn', 'rot_attn', None),
    timm_proj=choice('', 'linear', 'mlp', 'none', None),
    timm_proj_bias=FLAG,
    timm_drop=number(0, 1),
    timm_drop_path=optional(number(0, 1)),
)
TEXT: dict[str, Check] = _BLOCK | dict(
    context_length=whole(MOST_TOKENS),
    vocab_size=whole(MOST_WORDS),
    hf_tokenizer_name=optional(NAME),  # unused: the folder's files are read
    tokenizer_mode=optional(choice('', 'clips')),
    tokenizer_kwargs=optional(OBJECT),
    heads=whole(MOST_CHANNELS),
    layers=whole(MOST_LAYERS, 0),
    embed_cls=FLAG,
    pad_id=whole(MOST_WORDS, -1),
    eos_id=whole(MOST_WORDS, -1),
    no_causal_mask=FLAG,
    pool_type=choice('first', 'last', 'argmax', 'eos', 'none'),
    proj_bias=FLAG,
    proj_type=optional(choice('linear', 'none')),
    hf_model_name=(
        lambda v: v in (None, '') or v in _text_models_of_open_clip(),
        "one of open_clip's own",
    ),
    hf_model_pretrained=FLAG,
    hf_proj_type=optional(choice('linear', 'mlp')),
    hf_pooler_type=optional(
        choice(
            'mean_pooler',
            'max_pooler',
            'cls_pooler',
            'cls_last_hidden_state_pooler',
        )
    ),
)
MULTIMODAL: dict[str, Check] = TEXT | dict(
    dim_head=whole(MOST_CHANNELS),
    n_queries=whole(MOST_TOKENS),
    attn_pooler_heads=whole(MOST_CHANNELS),
)
# Passed on to a class inside open_clip.
_KWARGS = dict(
    act_kwargs=dict(approximate=choice('none', 'tanh')),
    norm_kwargs=dict(eps=number(0, 1), elementwise_affine=FLAG, bias=FLAG),
    tokenizer_kwargs=dict(
        clean=choice('canonicalize', 'lower', 'whitespace'),
        strip_sep_token=FLAG,
    ),
)
MODEL: dict[str, Check] = dict(
    embed_dim=whole(MOST_CHANNELS),
    vision_cfg=OBJECT,
    text_cfg=OBJECT,
    multimodal_cfg=OBJECT,
    quick_gelu=FLAG,
    custom_text=FLAG,
    init_logit_scale=number(-100, 100),
    init_logit_bias=optional(number(-1e3, 1e3)),
    nonscalar_logit_scale=FLAG,
)


def take_image_tower(config: Any, where: str) -> dict[str, Any]:
    """Return what an open_clip model config says of its image tower.

    Returns:
        dict: ``embed_dim``, ``vision_cfg`` and, if present, ``quick_gelu``.

    Raises:
        CheckpointError: If anything is missing, unknown or out of bounds.
    """
    parts = ('embed_dim', 'vision_cfg', 'quick_gelu')
    taken = take(config, {name: MODEL[name] for name in parts}, where)
    if 'vision_cfg' not in taken or 'embed_dim' not in taken:
        raise CheckpointError(
            f'{where} is not an open_clip model config: it needs embed_dim '
            'and vision_cfg.'
        )
    vision = _take_part(taken['vision_cfg'], VISION, f'{where}, vision_cfg')
    _refuse_large_table(vision, where)
    # Of open_clip 4, for its data loader; version 3 does not know it.
    vision.pop('image_seq_len', None)
    return taken | dict(vision_cfg=vision)


def take_whole_model(config: Any, where: str) -> dict[str, Any]:
    """Return what an open_clip model config says of both towers.

    Args and errors are those of :func:`take_image_tower`, but unknown keys
    are refused.
    """
    taken = take_all(config, MODEL, where) | take_image_tower(config, where)
    if 'text_cfg' not in taken:
        raise CheckpointError(f'{where} does not describe a text tower.')
    for part, checks in (('text_cfg', TEXT), ('multimodal_cfg', MULTIMODAL)):
        if part in taken:
            taken[part] = _take_part(taken[part], checks, f'{where}, {part}')
    return taken


def _refuse_large_table(vision: Mapping[str, Any], where: str) -> None:
    """Refuse large position tables, which open_clip computes at once."""
    size = vision.get('image_size', 224)
    height, width = (size, size) if isinstance(size, int) else size
    patch = vision.get('patch_size') or 16
    numbers = (height // patch) * (width // patch) * vision.get('width', 768)
    is_computed = vision.get('pos_embed_type') == 'sin_cos_2d'
    if is_computed and numbers > MOST_IN_TABLE:
        raise CheckpointError(
            f'{where}, vision_cfg: image_size {size} with patch_size {patch} '
            f'needs a position table of {numbers:,} numbers; at most '
            f'{MOST_IN_TABLE:,} are allowed.'
        )


def _take_part(
    values: Any, checks: Mapping[str, Check], where: str
) -> dict[str, Any]:
    taken = take_all(values, checks, where)
    for name, inner in _KWARGS.items():
        if taken.get(name) is not None:
            taken[name] = take_all(taken[name], inner, f'{where}, {name}')
    return taken


_ARCH = dict(
    width=MOST_CHANNELS,
    depth=MOST_LAYERS,
    num_heads=MOST_CHANNELS,
    mlp_width=MOST_CHANNELS,
)


def _is_arch(value: Any) -> bool:
    from mmclip.models.architecture import ALIASES, ARCHS

    if isinstance(value, str):
        return value in ARCHS or value in ALIASES
    return (
        isinstance(value, Mapping)
        and value.keys() == _ARCH.keys()
        and all(is_whole(value[name], 1, _ARCH[name]) for name in _ARCH)
        and value['width'] % value['num_heads'] == 0
    )


# Arguments of our backbones, without init_cfg, which holds an address.
BACKBONE: dict[str, Check] = dict(
    type=NAME,
    arch=(
        _is_arch,
        'a preset, or width (a multiple of num_heads), depth, num_heads and '
        'mlp_width within bounds',
    ),
    act=NAME,
    img_size=SIZE,
    patch_size=whole(MOST_PIXELS),
    norm_eps=number(0, 1),
    pre_norm=FLAG,
    pool=NAME,
    layer_scale_init=optional(number(0, 1e3)),
    proj_dim=optional(whole(MOST_CHANNELS)),
    proj_bias=FLAG,
    out_type=NAME,
    out_indices=optional(
        either(
            whole(MOST_LAYERS, -MOST_LAYERS), (_are_indices, 'a list of them')
        )
    ),
    drop_path_rate=number(0, 1),
    patch_dropout=number(0, 1),
    frozen_stages=whole(MOST_LAYERS, -1),
    freeze_patch_embed=FLAG,
    with_cp=FLAG,
    window_size=whole(MOST_TOKENS, 0),
    global_blocks=optional((_are_indices, 'a list of blocks')),
    norm_outputs=NAME,
    output_cls_token=FLAG,
    dense=optional(NAME),
    frozen=FLAG,
    norm_eval=FLAG,
    model=either(NAME, OBJECT),
)


def take_backbone(cfg: Any) -> dict[str, Any]:
    """Return the arguments of one of our backbones, without ``init_cfg``."""
    if isinstance(cfg, Mapping):
        cfg = {key: cfg[key] for key in cfg if key != 'init_cfg'}
    return take_all(cfg, BACKBONE, 'The backbone')
