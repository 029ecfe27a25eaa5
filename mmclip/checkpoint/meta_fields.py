"""What stands in ``meta['clip']``: names, and what their values have to be."""

from collections.abc import Callable
from typing import Any

from mmclip.checkpoint.towers import BACKBONES

# A check of a value, and in words what it has to be.
Field = tuple[Callable[[Any], bool], str]


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and not True or False."""
    return type(value) in (int, float) and abs(value) < float('inf')


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_list(value: Any, check: Callable[[Any], bool]) -> bool:
    return type(value) in (list, tuple) and all(map(check, value))


def is_colour(value: Any) -> bool:
    """Whether it is three numbers."""
    return _is_list(value, is_number) and len(value) == 3


def _is_size(value: Any) -> bool:
    return _is_count(value) or (_is_list(value, _is_count) and len(value) == 2)


def _is_arch(value: Any) -> bool:
    from mmclip.models.base_vit import ALIASES, ARCH_KEYS, ARCHS

    if type(value) is str:
        return value in ARCHS or value in ALIASES
    return (
        type(value) is dict
        and set(value) == set(ARCH_KEYS)
        and all(map(_is_count, value.values()))
        and value['width'] % value['num_heads'] == 0
    )


def _is_model(value: Any) -> bool:
    if type(value) is str:
        return True
    return (
        type(value) is dict
        and _is_count(value.get('embed_dim'))
        and type(value.get('vision_cfg')) is dict
        and type(value.get('quick_gelu', False)) is bool
        and all(map(_is_text, value['vision_cfg']))
    )


def _is_indices(value: Any) -> bool:
    return type(value) is int or _is_list(value, lambda v: type(v) is int)


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


_COUNT = (_is_count, 'a positive integer')
_TEXT = (_is_text, 'a text')
_TEXT_OR_NONE = (_or_none(_is_text), 'a text or None')
_FLAG = (lambda value: type(value) is bool, 'True or False')
_SIZE = (_is_size, 'a positive integer or two (height, width)')
_COLOUR = (is_colour, 'three numbers')
# By part and key.
PARTS: dict[str, dict[str, Field]] = {
    'backbone': dict(
        type=(BACKBONES.__contains__, f'one of {", ".join(BACKBONES)}'),
        arch=(_is_arch, 'a preset, or width, depth, num_heads and mlp_width'),
        act=_TEXT,
        img_size=_SIZE,
        patch_size=_COUNT,
        norm_eps=(is_number, 'a number'),
        pre_norm=_FLAG,
        pool=_TEXT,
        layer_scale_init=(_or_none(is_number), 'a number or None'),
        proj_dim=(_or_none(_is_count), 'a positive integer or None'),
        proj_bias=_FLAG,
        model=(_is_model, 'a name, or embed_dim, vision_cfg and quick_gelu'),
        out_type=_TEXT,
        out_indices=(_or_none(_is_indices), 'integers'),
    ),
    'preprocess': dict(
        mean=_COLOUR,
        std=(lambda v: is_colour(v) and min(v) > 0, 'three numbers above 0'),
        interpolation=_TEXT,
        resize_mode=_TEXT,
        crop_pct=(lambda v: is_number(v) and 0 < v <= 1, 'a share up to 1'),
        channels=(('RGB', 'BGR').__contains__, "'RGB' or 'BGR'"),
    ),
    'source': dict.fromkeys(('library', 'name', 'tag', 'file'), _TEXT_OR_NONE),
    'head': dict(type=_TEXT, num_classes=_COUNT, in_channels=_COUNT),
    'versions': dict.fromkeys(('mmclip', 'open_clip', 'timm', 'torch'), _TEXT),
}
# Of the keys that are not parts.
ALONE: dict[str, Field] = dict(
    img_size=_SIZE,
    classes=(_or_none(lambda v: _is_list(v, _is_text)), 'a list of names'),
)
