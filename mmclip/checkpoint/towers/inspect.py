"""Identification of weight files from their contents."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmclip.checkpoint.files.reading import Weights, open_weights
from mmclip.checkpoint.meta import make_clip
from mmclip.checkpoint.pretrained import PretrainedCLIP
from mmclip.checkpoint.towers.convert import (
    Conversion,
    convert,
    recognise,
    unlike_tensors,
)
from mmclip.checkpoint.towers.dialects import OPEN_CLIP_TOWER, TIMM_MODEL
from mmclip.checkpoint.towers.hugging_face import hugging_face_source
from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.checkpoint.towers.open_clip_tables import image_models
from mmclip.checkpoint.towers.tower import (
    MODULES,
    OTHER,
    TIMM_TOWER,
    build_backbone,
)
from mmclip.errors import CheckpointError
from mmclip.pos_embed import square_grid
from mmclip.untrusted.rules import read_json


@dataclass
class Findings:
    """The description of a weight file.

    Args:
        weights (Weights): The open file.
        dialect (str | None): The library whose names the tensors have; None
            if they are not those of a vision transformer that we know.
        dtypes (dict[str, int]): The number of tensors of each dtype.
        parts (dict[str, int]): The number of tensors of each part.
        shapes (dict): What the shapes tell: ``width``, ``depth``,
            ``mlp_width``, ``patch_size``, ``img_size``, ``proj_dim``.
        meta (dict | None): Our ``meta['clip']``, or the same from the config
            of open_clip or Hugging Face in the folder.
        names (list[str]): The open_clip models with such a tower.
        activations (dict[str, list[str]]): The tags of these models, by
            activation.
        conversion (Conversion | None): The tensors by our names.
        problem (str | None): Why they cannot be converted.
    """

    weights: Weights
    dialect: str | None
    dtypes: dict[str, int]
    parts: dict[str, int]
    shapes: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] | None = None
    names: list[str] = field(default_factory=list)
    activations: dict[str, list[str]] = field(default_factory=dict)
    conversion: Conversion | None = None
    problem: str | None = None


def inspect_weights(path: str | Path) -> Findings:
    """Identify a file or folder of weights.

    Args:
        path (str | Path): Weights from open_clip, OpenAI, timm, Hugging Face,
            mmpretrain or mmclip.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is not a readable checkpoint.
    """
    path = Path(path)
    tensors = open_weights(path)
    meta = _read_meta(path, tensors)
    found = Findings(tensors, None, _dtypes(tensors), {}, meta=meta)
    try:
        dialect = recognise(tensors)
        found.dialect = dialect.name
        names = convert(_zeros(tensors), dialect)  # values do not matter yet
    except CheckpointError as error:
        if meta and meta['backbone']['type'] == TIMM_TOWER:
            found.dialect = 'timm, of a model that only it can build'
            return found
        found.names = _towers_of_open_clip_itself(tensors)
        if found.names:
            found.dialect = 'open_clip, of a tower that only it can build'
        else:
            found.problem = str(error)
        return found
    found.parts = {'image tower': len(names.mapped)} | {
        part: len(keys) for part, keys in names.left_out.items()
    }
    found.shapes = _shapes(names.state_dict)
    if found.meta and found.meta['img_size'] is not None:
        found.shapes['img_size'] = found.meta['img_size']
    found.names, found.activations = _similar(found.shapes)
    try:
        found.conversion = convert(tensors, dialect)
    except CheckpointError as error:
        found.problem = str(error)
    return found


def why_not(found: Findings, path: str | Path, backbone: dict) -> str | None:
    """Return why weights would not load into a backbone, if so."""
    conversion = found.conversion
    try:
        module = build_backbone({**backbone, 'init_cfg': None}, 'meta')
        if backbone['type'] == TIMM_TOWER and not found.meta:
            conversion = convert(found.weights, TIMM_MODEL)
        elif conversion is None and backbone['type'] in MODULES:
            conversion = convert(found.weights, OPEN_CLIP_TOWER)
        if conversion is None:
            return found.problem or (
                'only open_clip can build this tower; use '
                'mmclip.OpenCLIPVisionTower.'
            )
        checkpoint = dict(
            meta=dict(clip=found.meta) if found.meta else {},
            state_dict={
                f'backbone.{key}': tensor
                for key, tensor in conversion.state_dict.items()
                if not key.startswith('head.')
            },
        )
        tensors = PretrainedCLIP(str(path)).prepare(checkpoint, module)
    except CheckpointError as error:
        return str(error)
    return '\n  '.join(unlike_tensors(tensors, module.state_dict())) or None


def _dtypes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    names = (str(tensor.dtype) for tensor in tensors.values())
    return dict(Counter(name.removeprefix('torch.') for name in names))


def _zeros(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return zeros of the same shapes, which take no memory."""
    zero = torch.zeros(())
    return {key: zero.expand(tensor.shape) for key, tensor in tensors.items()}


def _read_meta(path: Path, weights: Weights) -> dict[str, Any] | None:
    config, theirs = path / 'config.json', path / 'open_clip_config.json'
    if theirs.is_file():
        tower = find_tower(str(theirs), None)
        return make_clip(tower.backbone, tower.img_size, tower.preprocess)
    if path.is_dir():
        if not config.is_file() or 'model_type' not in read_json(config):
            return None  # not from transformers; timm has a config.json too
        tower, _ = hugging_face_source(str(config), str(path))
        return make_clip(tower.backbone, tower.img_size, tower.preprocess)
    return weights.clip


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what the shapes of a tower's tensors, by our names, tell."""
    width, _, patch_size, _ = tensors['patch_embed.projection.weight'].shape
    blocks = {int(k.split('.')[1]) for k in tensors if k.startswith('layers.')}
    has_cls_token = 'cls_token' in tensors
    num_patches = tensors['pos_embed'].shape[1] - has_cls_token
    try:
        img_size = square_grid(num_patches)[0] * patch_size
    except ValueError:
        img_size = None
    mlp = tensors.get('layers.0.ffn.layers.0.0.bias')
    proj = tensors.get('proj')
    return dict(
        width=width,
        depth=len(blocks),
        mlp_width=None if mlp is None else len(mlp),
        patch_size=patch_size,
        img_size=img_size,
        proj_dim=None if proj is None else proj.shape[1],
        class_token=has_cls_token,
        pre_norm='pre_norm.weight' in tensors,
        attention_pool=any(k.startswith('attn_pool.') for k in tensors),
    )


def _similar(
    shapes: dict[str, Any],
) -> tuple[list[str], dict[str, list[str]]]:
    """Find open_clip models of these shapes, and their tags' activations."""
    import open_clip

    names: list[str] = []
    activations: dict[str, list[str]] = {}
    for name, config in image_models():
        size = config['vision_cfg'].get('image_size', 224)
        if size != shapes['img_size']:
            continue  # spares building its trunk
        backbone = find_tower(name, None).backbone
        if backbone['type'] in MODULES or not _fits(backbone, shapes):
            continue
        names.append(name)
        for tag in open_clip.list_pretrained_tags_by_model(name):
            act = find_tower(name, tag).backbone['act']
            activations.setdefault(act, []).append(f'{name}/{tag}')
    return names, activations


def _fits(backbone: dict[str, Any], shapes: dict[str, Any]) -> bool:
    arch = backbone['arch']
    theirs = dict(
        width=arch['width'],
        depth=arch['depth'],
        mlp_width=arch['mlp_width'],
        patch_size=backbone['patch_size'],
        img_size=backbone['img_size'],
        class_token=backbone['type'] == 'mmclip.CLIPVisionTransformer',
        pre_norm=backbone.get('pre_norm', False),
        attention_pool=backbone['pool'] == 'attention',
    )
    if shapes['proj_dim'] is not None:
        theirs['proj_dim'] = backbone.get('proj_dim')
    return all(shapes[key] == value for key, value in theirs.items())


def _towers_of_open_clip_itself(tensors: Mapping[str, Tensor]) -> list[str]:
    """Find the open_clip models whose tower has these keys and shapes."""
    prefix = OPEN_CLIP_TOWER.prefix_in(tensors) or ''
    shapes = {
        key.removeprefix(prefix): tensor.shape
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }
    heads = [key for key in shapes if 'head' in key.split('.')] or shapes
    dims = {dim for key in heads for dim in shapes[key]}
    has_trunk = any(key.startswith('trunk.') for key in shapes)
    names = []
    for name, model_cfg in image_models():
        is_trunk = 'timm_model_name' in model_cfg['vision_cfg']
        if is_trunk != has_trunk or model_cfg['embed_dim'] not in dims:
            continue  # spares building it
        backbone = find_tower(name, None).backbone
        if backbone['type'] != OTHER:
            continue
        tower = build_backbone(backbone, 'meta').tower
        if {k: t.shape for k, t in tower.state_dict().items()} == shapes:
            names.append(name)
    return names
