"""Image towers from Hugging Face transformers' folders, and back.

A folder's ``config.json`` describes the tower; transformers itself is not
needed.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.utils import to_2tuple
from torch import Tensor

from mmclip.checkpoint.files.paths import files_of, is_local
from mmclip.checkpoint.files.reading import read_state_dict
from mmclip.checkpoint.meta import Clip
from mmclip.checkpoint.towers.convert import export
from mmclip.checkpoint.towers.dialects import HF_CLIP, HF_SIGLIP
from mmclip.checkpoint.towers.timm import to_timm_folder
from mmclip.checkpoint.towers.tower import (
    CLIP,
    SIGLIP,
    Export,
    Source,
    Tower,
    note_head,
)
from mmclip.errors import CheckpointError
from mmclip.untrusted.rules import (
    FLAG,
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_PIXELS,
    NAME,
    OBJECT,
    PIXELS,
    SPREADS,
    Check,
    choice,
    either,
    number,
    optional,
    read_json,
    take,
    whole,
)

# transformers' defaults: models/{clip,siglip}/configuration_*.py.
_COMMON = dict(
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    image_size=224,
)
_CLIP = dict(
    _COMMON, patch_size=32, hidden_act='quick_gelu', layer_norm_eps=1e-5
)
_SIGLIP = dict(
    _COMMON, patch_size=16, hidden_act='gelu_pytorch_tanh', layer_norm_eps=1e-6
)
DEFAULTS = {
    'clip': _CLIP,
    'clip_vision_model': _CLIP,
    'metaclip_2': _CLIP,
    'metaclip_2_vision_model': _CLIP,
    'siglip': _SIGLIP,
    'siglip_vision_model': _SIGLIP,
}
ACTS = {
    'quick_gelu': 'quick_gelu',
    'gelu': 'gelu',
    'gelu_pytorch_tanh': 'gelu_tanh',
}
# PIL's numbers for filters.
INTERPOLATIONS = {2: 'bilinear', 3: 'bicubic'}
VISION: dict[str, Check] = dict(
    hidden_size=whole(MOST_CHANNELS),
    intermediate_size=whole(MOST_CHANNELS),
    num_hidden_layers=whole(MOST_LAYERS),
    num_attention_heads=whole(MOST_CHANNELS),
    image_size=whole(MOST_PIXELS),
    patch_size=whole(MOST_PIXELS),
    hidden_act=choice(*ACTS),
    layer_norm_eps=number(0, 1),
    projection_dim=whole(MOST_CHANNELS),
)
MODEL: dict[str, Check] = dict(
    vision_config=optional(OBJECT),
    vision_config_dict=optional(OBJECT),
    projection_dim=whole(MOST_CHANNELS),
    _name_or_path=optional(NAME),
)
_SIDE = whole(MOST_PIXELS)
PROCESSOR: dict[str, Check] = dict(
    image_mean=PIXELS,
    image_std=SPREADS,
    image_processor_type=NAME,
    do_center_crop=FLAG,
    resample=choice(*INTERPOLATIONS),
    size=either(_SIDE, OBJECT),
    crop_size=either(_SIDE, OBJECT),
)
SIDES: dict[str, Check] = dict(shortest_edge=_SIDE, height=_SIDE, width=_SIDE)
# What transformers' image processors must know.
NEEDED = {'mean', 'std', 'interpolation', 'resize_mode'}


def is_hugging_face_config(path: str | Path) -> bool:
    """Return whether a file is a transformers model's ``config.json``."""
    path = Path(path)
    if path.suffix != '.json' or not path.is_file():
        return False
    try:
        return 'model_type' in read_json(path)
    except CheckpointError:
        return False  # the reader of open_clip's configs reports it


def hugging_face_source(config: str, weights: str) -> Source:
    """Find a tower from transformers and its weights.

    Args:
        config (str): The ``config.json``. A ``preprocessor_config.json``
            next to it says how images are prepared.
        weights (str): The folder or file of weights.

    Raises:
        CheckpointError: If it is not a CLIP or SigLIP model.
        FileNotFoundError: If a file is missing.
    """
    if not is_local(weights):
        files_of(weights)  # refuses a folder without weights
        raise FileNotFoundError(f'Checkpoint {weights} does not exist.')
    state_dict = read_state_dict(weights)
    tower = _find_tower(Path(config), set(state_dict))
    return tower, lambda: state_dict


def to_hugging_face(
    tower: Mapping[str, Tensor], head: Mapping[str, Tensor], clip: Clip
) -> Export:
    """Rename a tower for transformers, as CLIP, SigLIP or a model of timm.

    Raises:
        CheckpointError: If transformers cannot prepare images the same way,
            or timm has no place for a part of the tower.
    """
    backbone, preprocess = clip['backbone'], clip['preprocess'] or {}
    if reason := _why_not(backbone):
        return to_timm_folder(tower, head, clip, reason)
    is_clip = backbone['type'] == CLIP
    proj_dim = backbone.get('proj_dim')
    kind = 'SiglipVisionModel'
    if is_clip:
        kind = 'CLIPVisionModel' + 'WithProjection' * (proj_dim is not None)
    notes = note_head(head, 'the vision models of transformers')
    files = {'config.json': model_config(backbone, kind)}
    if NEEDED.issubset(preprocess):
        files['preprocessor_config.json'] = _processor_config(
            preprocess, backbone['img_size'], is_clip
        )
    else:
        notes.append(
            'no preprocessor_config.json: the checkpoint does not fully say '
            'how images are prepared'
        )
    return Export(
        export(tower, HF_CLIP if is_clip else HF_SIGLIP, 'vision_model.'),
        lambda out: (
            f'from transformers import {kind}\n\n'
            f'model = {kind}.from_pretrained({str(out)!r})'
        ),
        notes,
        files,
    )


def _find_tower(path: Path, keys: set[str]) -> Tower:
    config = read_json(path)
    kind = config.get('model_type')
    if not isinstance(kind, str) or kind not in DEFAULTS:
        raise CheckpointError(
            f'{path} has model_type {str(kind)[:50]!r}; supported are '
            f'{", ".join(DEFAULTS)}.'
        )
    taken = take(config, MODEL, str(path))
    vision = _vision_config(kind, config, taken, path)
    backbone = dict(
        type=CLIP,
        arch=dict(
            width=vision['hidden_size'],
            depth=vision['num_hidden_layers'],
            num_heads=vision['num_attention_heads'],
            mlp_width=vision['intermediate_size'],
        ),
        act=ACTS[vision['hidden_act']],
        img_size=vision['image_size'],
        patch_size=vision['patch_size'],
        norm_eps=vision['layer_norm_eps'],
    )
    if kind.startswith('siglip'):
        has_head = any(key.endswith('head.probe') for key in keys)
        backbone |= dict(type=SIGLIP, pool='attention' if has_head else 'avg')
    else:
        backbone |= dict(pre_norm=True, pool='cls_token')
    if 'visual_projection.weight' in keys:
        dim = taken.get('projection_dim', vision.get('projection_dim', 512))
        backbone |= dict(proj_dim=dim)
    return Tower(
        library='transformers',
        name=taken.get('_name_or_path') or path.absolute().parent.name,
        tag=None,
        backbone=backbone,
        img_size=vision['image_size'],
        preprocess=_preprocess(path.parent / 'preprocessor_config.json'),
    )


def _vision_config(
    kind: str, config: dict[str, Any], taken: dict[str, Any], path: Path
) -> dict[str, Any]:
    """Return the settings of the image tower, as transformers finds them.

    ``vision_config_dict``, in early CLIP models, replaces ``vision_config``
    entirely: models/clip/configuration_clip.py.
    """
    name = 'vision_config'
    if kind == 'clip' and taken.get('vision_config_dict') is not None:
        name = 'vision_config_dict'
    if taken.get(name) is not None:
        return DEFAULTS[kind] | take(taken[name], VISION, f'{path}, {name}')
    if kind.endswith('_vision_model'):
        return DEFAULTS[kind] | take(config, VISION, str(path))
    return DEFAULTS[kind]


def _preprocess(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    config = take(_said(read_json(path)), PROCESSOR, str(path))
    if 'image_mean' not in config or 'image_std' not in config:
        raise CheckpointError(f'{path} lacks image_mean or image_std.')
    # CLIP's image processor crops unless told otherwise, SigLIP's does not.
    processor = config.get('image_processor_type', '')
    crops = config.get('do_center_crop', 'siglip' not in processor.lower())
    preprocess: dict[str, Any] = dict(
        mean=list(config['image_mean']),
        std=list(config['image_std']),
        interpolation=INTERPOLATIONS[config.get('resample', 3)],
        resize_mode='shortest' if crops else 'squash',
    )
    size = config.get('size', 224)
    edge = _side(size, 'shortest_edge', f'{path}, size')
    crop = _side(config.get('crop_size', size), 'height', f'{path}, crop_size')
    if crops and edge and crop and crop != edge:
        preprocess['crop_pct'] = _crop_pct(crop, edge)
    return preprocess


def _side(size: Any, name: str, where: str) -> int | None:
    """Return one side of a processor's size, which may be one number."""
    if isinstance(size, int):
        return size
    return take(_said(size), SIDES, where).get(name)


def _said(values: dict[str, Any]) -> dict[str, Any]:
    """Drop nulls, which transformers writes for its defaults."""
    return {key: value for key, value in values.items() if value is not None}


def _crop_pct(crop: int, edge: int) -> float:
    """Return ``crop / edge``, rounded so that ``crop / crop_pct >= edge``."""
    crop_pct = crop / edge
    if math.floor(crop / crop_pct) < edge:
        crop_pct = math.nextafter(crop_pct, 0)
    return crop_pct


def _why_not(backbone: dict[str, Any]) -> str | None:
    """Return why transformers' CLIP and SigLIP cannot hold a tower, if so."""
    height, width = to_2tuple(backbone['img_size'])
    if backbone['out_type'] == 'avg_featmap':
        # CLIPForImageClassification averages the patches before the norm.
        return 'it was fine-tuned with the mean of the patches after the norm'
    if height != width:
        return f'its images are {height}x{width}, not square'
    if backbone['type'] == SIGLIP and backbone['pool'] != 'attention':
        return f'it pools by {backbone["pool"]}, not by attention'
    if backbone.get('layer_scale_init') is not None:
        return 'it has LayerScale'
    return None


def model_config(backbone: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the content of ``config.json`` for a backbone.

    Args:
        backbone (dict): The config of our backbone, with all arguments.
        kind (str): The class of transformers.
    """
    arch = backbone['arch']
    acts = {ours: theirs for theirs, ours in ACTS.items()}
    config = dict(
        architectures=[kind],
        model_type=(
            'clip_vision_model'
            if backbone['type'] == CLIP
            else 'siglip_vision_model'
        ),
        hidden_size=arch['width'],
        intermediate_size=arch['mlp_width'],
        num_hidden_layers=arch['depth'],
        num_attention_heads=arch['num_heads'],
        image_size=backbone['img_size'],
        patch_size=backbone['patch_size'],
        hidden_act=acts[backbone['act']],
        layer_norm_eps=backbone['norm_eps'],
    )
    if (proj_dim := backbone.get('proj_dim')) is not None:
        config['projection_dim'] = proj_dim
    return config


def _processor_config(
    preprocess: dict[str, Any], img_size: int, is_clip: bool
) -> dict[str, Any]:
    """Return the image processor's config that gives the same pixels."""
    crop_pct = preprocess.get('crop_pct', 1.0)
    resample = {v: k for k, v in INTERPOLATIONS.items()}
    crops = preprocess['resize_mode'] == 'shortest'
    if crop_pct != 1.0 and not crops:
        raise CheckpointError(
            "transformers cannot prepare images with resize_mode 'squash' "
            f'and crop_pct {crop_pct}, only with crop_pct 1.0.'
        )
    if preprocess.get('channels', 'RGB') != 'RGB':
        raise CheckpointError(
            'transformers prepares RGB images, but this tower was trained '
            'with BGR images (to_rgb=False in its data_preprocessor).'
        )
    if preprocess['interpolation'] not in INTERPOLATIONS.values():
        raise CheckpointError(
            'transformers cannot resize images with '
            f'{preprocess["interpolation"]!r} interpolation.'
        )
    edge = math.floor(img_size / crop_pct)
    square = dict(height=img_size, width=img_size)
    kind = 'CLIP' if is_clip else 'Siglip'
    config = dict(
        image_processor_type=f'{kind}ImageProcessor',
        do_resize=True,
        resample=resample[preprocess['interpolation']],
        size=dict(shortest_edge=edge) if crops else square,
        do_center_crop=crops,
        do_rescale=True,
        do_normalize=True,
        image_mean=preprocess['mean'],
        image_std=preprocess['std'],
    )
    return config | dict(crop_size=square) if crops else config
