"""The configs that stand beside weights for transformers."""

import math
from typing import Any

from mmengine.utils import to_2tuple

from mmclip.checkpoint.towers.hugging_face import ACTS, INTERPOLATIONS
from mmclip.checkpoint.towers.tower import CLIP, SIGLIP
from mmclip.errors import CheckpointError

CONFIG, PROCESSOR = 'config.json', 'preprocessor_config.json'
HUGGING_FACE_FILES = (CONFIG, PROCESSOR)
# What transformers must be told of preprocessing.
NEEDED = {'mean', 'std', 'interpolation', 'resize_mode'}


def what_hugging_face_lacks(backbone: dict[str, Any]) -> str | None:
    """Why a tower cannot be a CLIP or SigLIP model of transformers, if so."""
    height, width = to_2tuple(backbone.get('img_size', 224))
    if backbone.get('out_type') == 'avg_featmap':
        # CLIPForImageClassification averages the patches before the norm.
        return 'it was fine-tuned with the mean of the patches after the norm'
    if height != width:
        return f'its images are {height}x{width}, and not square'
    if backbone['type'] == SIGLIP and backbone['pool'] != 'attention':
        return f'it pools by {backbone["pool"]}, and not by attention'
    if backbone.get('layer_scale_init') is not None:
        return 'it has LayerScale'
    return None


def hugging_face_files(
    backbone: dict[str, Any], proj_dim: int | None, meta: dict[str, Any]
) -> tuple[str, dict[str, dict[str, Any]]]:
    """The class of transformers for a tower, and its JSON files.

    Args:
        backbone (dict): The config of our backbone.
        proj_dim (int | None): Width of the projection, None without one.
        meta (dict): ``meta['clip']``, for the preprocessing if it says so.

    Returns:
        tuple[str, dict]: The name of the class, and contents by file name.

    Raises:
        CheckpointError: If transformers cannot prepare images so.
    """
    is_clip = backbone['type'] == CLIP
    name = 'SiglipVisionModel'
    if is_clip:
        name = 'CLIPVisionModel' + 'WithProjection' * (proj_dim is not None)
    files = {CONFIG: _model_config(backbone, proj_dim, name)}
    preprocess = meta.get('preprocess') or {}
    if NEEDED.issubset(preprocess):
        height, _ = to_2tuple(backbone['img_size'])
        files[PROCESSOR] = _processor_config(preprocess, height, is_clip)
    return name, files


def _model_config(
    backbone: dict[str, Any], proj_dim: int | None, name: str
) -> dict[str, Any]:
    arch = backbone['arch']
    acts = {ours: theirs for theirs, ours in ACTS.items()}
    config = dict(
        architectures=[name],
        model_type=(
            'clip_vision_model'
            if backbone['type'] == CLIP
            else 'siglip_vision_model'
        ),
        hidden_size=arch['width'],
        intermediate_size=arch['mlp_width'],
        num_hidden_layers=arch['depth'],
        num_attention_heads=arch['num_heads'],
        image_size=backbone.get('img_size', 224),
        patch_size=backbone['patch_size'],
        hidden_act=acts[backbone['act']],
        layer_norm_eps=backbone['norm_eps'],
    )
    return (
        config if proj_dim is None else config | dict(projection_dim=proj_dim)
    )


def _processor_config(
    preprocess: dict[str, Any], img_size: int, is_clip: bool
) -> dict[str, Any]:
    """What transformers' image processors do the same pixels by."""
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
            'transformers gives a tower red first, and this one was trained '
            'with blue first (to_rgb=False in its data_preprocessor).'
        )
    if preprocess['interpolation'] not in INTERPOLATIONS.values():
        raise CheckpointError(
            'transformers cannot resize images by '
            f'{preprocess["interpolation"]!r}.'
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
