"""CLIP and SigLIP image towers in folders of Hugging Face transformers.

The folder's ``config.json`` says what the tower is; transformers itself is
not needed.
"""

import json
import math
from pathlib import Path
from typing import Any

from mmclip.checkpoint.errors import CheckpointError
from mmclip.checkpoint.files import is_local, read_state_dict
from mmclip.checkpoint.towers import CLIP, SIGLIP, Source, Tower

# What transformers takes where a config says nothing:
# models/{clip,siglip}/configuration_*.py.
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
    'siglip': _SIGLIP,
    'siglip_vision_model': _SIGLIP,
}
ACTS = {
    'quick_gelu': 'quick_gelu',
    'gelu': 'gelu',
    'gelu_pytorch_tanh': 'gelu_tanh',
}
# PIL's numbers of filters.
INTERPOLATIONS = {2: 'bilinear', 3: 'bicubic'}


def is_hugging_face_config(path: str | Path) -> bool:
    """Whether a file is the ``config.json`` of a transformers model."""
    path = Path(path)
    if path.suffix != '.json' or not path.is_file():
        return False
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
    except ValueError:
        return False  # the reader of open_clip's configs says so
    return isinstance(config, dict) and 'model_type' in config


def hugging_face_source(config: str, weights: str) -> Source:
    """A tower of transformers and its weights.

    Args:
        config (str): The ``config.json``. A ``preprocessor_config.json``
            beside it says how images are prepared.
        weights (str): The folder or file of weights.

    Raises:
        CheckpointError: If it is no CLIP or SigLIP model.
        FileNotFoundError: If a file is missing.
    """
    if not is_local(weights):
        raise FileNotFoundError(f'Checkpoint {weights} does not exist.')
    state_dict = read_state_dict(weights)
    tower = _find_tower(Path(config), set(state_dict))
    return tower, lambda: state_dict


def _find_tower(path: Path, keys: set[str]) -> Tower:
    config = json.loads(path.read_text(encoding='utf-8'))
    kind = config['model_type']
    if kind not in DEFAULTS:
        raise CheckpointError(
            f'{path} describes a model of type {kind!r}; CLIP and SigLIP have '
            f'{", ".join(DEFAULTS)}.'
        )
    vision = DEFAULTS[kind] | config.get('vision_config', config)
    if vision['hidden_act'] not in ACTS:
        raise CheckpointError(
            f'{path}: hidden_act must be one of {", ".join(ACTS)}, got '
            f'{vision["hidden_act"]!r}.'
        )
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
        dim = config.get('projection_dim', vision.get('projection_dim', 512))
        backbone |= dict(proj_dim=dim)
    return Tower(
        library='transformers',
        name=config.get('_name_or_path') or path.absolute().parent.name,
        tag=None,
        backbone=backbone,
        img_size=vision['image_size'],
        preprocess=_preprocess(path.parent / 'preprocessor_config.json'),
    )


def _preprocess(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding='utf-8'))
    # CLIP's image processor crops unless told otherwise, SigLIP's does not.
    is_siglip = 'siglip' in config.get('image_processor_type', '').lower()
    crops = config.get('do_center_crop', not is_siglip)
    resample = config.get('resample', 3)
    if resample not in INTERPOLATIONS:
        raise CheckpointError(
            f'{path}: resample must be 2 (bilinear) or 3 (bicubic), got '
            f'{resample}.'
        )
    preprocess: dict[str, Any] = dict(
        mean=list(config['image_mean']),
        std=list(config['image_std']),
        interpolation=INTERPOLATIONS[resample],
        resize_mode='shortest' if crops else 'squash',
    )
    size = config.get('size', 224)
    edge = _side(size, 'shortest_edge')
    crop = _side(config.get('crop_size', size), 'height')
    if crops and edge and crop and crop != edge:
        preprocess['crop_pct'] = _crop_pct(crop, edge)
    return preprocess


def _side(size: int | dict[str, int], name: str) -> int | None:
    """A size of a processor, which older ones give as one number."""
    return size if isinstance(size, int) else size.get(name)


def _crop_pct(crop: int, edge: int) -> float:
    """Their quotient, rounded so that ``crop / crop_pct`` is not below."""
    crop_pct = crop / edge
    if math.floor(crop / crop_pct) < edge:
        crop_pct = math.nextafter(crop_pct, 0)
    return crop_pct
