"""Config lines that use a converted checkpoint."""

from pathlib import Path
from typing import Any

from mmclip.checkpoint.towers.open_clip_tables import model_names
from mmclip.checkpoint.towers.tower import OTHER
from mmclip.datasets.preprocessing import data_preprocessor
from mmclip.models.architecture import ARCHS


def config_lines(clip: dict[str, Any], path: str | Path) -> str:
    """Return the lines to paste into the ``model`` of a config.

    They leave out the projection unless a head needs it: it would change the
    width of the last of several maps, and of a classifier's features.
    """
    lines = []
    if preprocess := clip['preprocess']:
        lines += [f'data_preprocessor=dict({_normalisation(preprocess)}),']
    lines.append(f'backbone=dict(type={clip["backbone"]["type"]!r},')
    for key, value in _arguments(clip).items():
        text = _arch(value) if key == 'arch' else repr(value)
        lines.append(f'    {key}={text},')
    lines += [
        "    init_cfg=dict(type='mmclip.PretrainedCLIP',",
        f'        checkpoint={str(path)!r})),',
    ]
    if head := clip.get('head'):
        text = ', '.join(f'{key}={value!r}' for key, value in head.items())
        lines.append(f'head=dict({text}),')
    return '\n'.join(f'  {line}' for line in lines)


def other_uses(clip: dict[str, Any]) -> str:
    """Say how to change these lines for feature maps and CLIP's embedding."""
    lines = [
        "feature maps (mmsegmentation, mmdetection): add out_type='featmap' "
        'and out_indices to the backbone, and change to_rgb to bgr_to_rgb'
    ]
    left = clip['backbone'].keys() - _arguments(clip).keys()
    if added := [
        f'{key}={clip["backbone"][key]!r}'
        for key in ('proj_dim', 'proj_bias')
        if key in left and clip['backbone'][key]
    ]:
        lines.append(
            f"CLIP's image embedding: add {', '.join(added)} to the backbone"
        )
    if clip.get('head'):
        lines.append(
            'the classifier as it is: mmclip test CONFIG FILE, or '
            "load_from='FILE' in the config"
        )
    return '\n'.join(f'  {line}' for line in lines)


def images(clip: dict[str, Any]) -> str:
    """Say how images must be prepared, in the terms of OpenMMLab's configs."""
    preprocess = clip['preprocess']
    if not preprocess:
        return 'unknown'
    others = [
        f'{key}={value!r}'
        for key, value in preprocess.items()
        if key not in ('mean', 'std')
    ]
    return ', '.join([*others, _normalisation(preprocess)])


def _normalisation(preprocess: dict[str, Any]) -> str:
    """Return ``mean`` and ``std`` for pixels in 0..255, as arguments."""
    arguments = data_preprocessor(preprocess)
    mean, std = (
        ', '.join(f'{value:.10g}' for value in arguments[key])
        for key in ('mean', 'std')
    )
    return f'mean=[{mean}], std=[{std}], to_rgb={arguments["to_rgb"]}'


def _arguments(clip: dict[str, Any]) -> dict[str, Any]:
    """Return the backbone's arguments, without an unneeded projection."""
    backbone = dict(clip['backbone'])
    if backbone['type'] == OTHER:
        name = clip['source']['name']
        if name in model_names():
            backbone['model'] = name
    # CoCa's attention pooling has the width of the projection.
    needed = clip.get('head') or backbone.get('pool') == 'attention'
    left_out = ['type'] if needed else ['type', 'proj_dim', 'proj_bias']
    return {
        key: value
        for key, value in backbone.items()
        if value is not None and key not in left_out
    }


def _arch(arch: dict[str, int]) -> str:
    """Return the name of a preset, or the numbers."""
    for name, preset in ARCHS.items():
        if tuple(arch.values()) == preset:
            return repr(name)
    return f'dict({", ".join(f"{k}={v}" for k, v in arch.items())})'
