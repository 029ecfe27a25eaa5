"""What stands in ``meta['clip']``: names, and what their values have to be."""

from typing import Any

from mmclip.checkpoint.towers.model_configs import BACKBONE
from mmclip.checkpoint.towers.tower import BACKBONES
from mmclip.checkpoint.untrusted import (
    MOST_CHANNELS,
    MOST_WORDS,
    NAME,
    PIXELS,
    SIZE,
    SPREADS,
    Check,
    choice,
    is_whole,
    number,
    optional,
    whole,
)


def _are_names(value: Any) -> bool:
    return value is None or (
        isinstance(value, list | tuple) and all(map(NAME[0], value))
    )


def _is_arch(value: Any) -> bool:
    from mmclip.models.base_vit import ALIASES, ARCH_KEYS, ARCHS

    if isinstance(value, str):
        return value in ARCHS or value in ALIASES
    return (
        isinstance(value, dict)
        and set(value) == set(ARCH_KEYS)
        and all(
            is_whole(number, 1, MOST_CHANNELS) for number in value.values()
        )
        and value['width'] % value['num_heads'] == 0
    )


# How a tower is trained and frozen does not describe it.
_DESCRIBING = (
    'act',
    'img_size',
    'patch_size',
    'norm_eps',
    'pre_norm',
    'pool',
    'layer_scale_init',
    'proj_dim',
    'proj_bias',
    'model',
    'out_type',
    'out_indices',
)
# By part and key.
PARTS: dict[str, dict[str, Check]] = {
    'backbone': dict(
        type=choice(*BACKBONES),
        arch=(_is_arch, 'a preset, or width, depth, num_heads and mlp_width'),
    )
    | {name: BACKBONE[name] for name in _DESCRIBING},
    'preprocess': dict(
        mean=PIXELS,
        std=SPREADS,
        interpolation=NAME,
        resize_mode=NAME,
        crop_pct=number(0.01, 1),
        channels=choice('RGB', 'BGR'),
    ),
    'source': dict.fromkeys(
        ('library', 'name', 'tag', 'file'), optional(NAME)
    ),
    'head': dict(
        type=NAME,
        num_classes=whole(MOST_WORDS),
        in_channels=whole(MOST_CHANNELS),
    ),
    'versions': dict.fromkeys(('mmclip', 'open_clip', 'timm', 'torch'), NAME),
}
# Of the keys that are not parts.
ALONE: dict[str, Check] = dict(
    img_size=SIZE,
    classes=(_are_names, 'a list of names'),
)
