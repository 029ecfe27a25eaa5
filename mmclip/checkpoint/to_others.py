"""From our checkpoints back to open_clip, timm and Hugging Face."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmclip.checkpoint.convert import check_complete, export
from mmclip.checkpoint.dialects import (
    HF_CLIP,
    HF_SIGLIP,
    OPEN_CLIP,
    OPEN_CLIP_TOWER,
    TIMM,
    TIMM_CLASSIFIER,
    Dialect,
)
from mmclip.checkpoint.errors import CheckpointError
from mmclip.checkpoint.from_hugging_face import ACTS, INTERPOLATIONS
from mmclip.checkpoint.towers import (
    CLIP,
    OTHER,
    SIGLIP,
    build_backbone,
)

TARGETS = ('open_clip', 'timm', 'hf')
_HEAD = 'head.fc.'


@dataclass
class Export:
    """A tower in another project's names.

    Args:
        state_dict (dict[str, Tensor]): Its tensors.
        usage (str): The call that loads it there.
        notes (list[str]): What was left out or added.
        files (dict[str, dict]): JSON files that go beside the weights, by
            name; with any, the weights go into a folder.
    """

    state_dict: dict[str, Tensor]
    usage: str
    notes: list[str] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


def export_checkpoint(
    checkpoint: Mapping[str, Any],
    to: str,
    backbone: dict[str, Any] | None = None,
    base: Mapping[str, Tensor] | None = None,
) -> Export:
    """Rename the tower of a checkpoint of ours, converted or fine-tuned.

    Args:
        checkpoint (Mapping): With ``state_dict`` and, for what the tensors
            do not tell, ``meta['clip']``.
        to (str): ``'open_clip'``, ``'timm'`` or ``'hf'``.
        backbone (dict | None): The backbone's config, for checkpoints without
            ``meta['clip']``, which training writes.
        base (Mapping[str, Tensor] | None): For open_clip: the whole model
            whose text tower, and projection if ours has none, go with it.

    Raises:
        CheckpointError: If the checkpoint does not fit its backbone, or the
            other project has no place for something in it.
    """
    meta = checkpoint.get('meta', {}).get('clip') or {}
    backbone = backbone or meta.get('backbone')
    if backbone is None:
        raise CheckpointError(
            "The checkpoint has no meta['clip'], which says what the tensors "
            'do not (heads, activation); pass --config with the config that '
            'it was trained with.'
        )
    tower, head = _split(checkpoint['state_dict'])
    module = build_backbone(backbone, 'meta')
    check_complete(tower, module.state_dict())
    backbone = backbone | module.describe()  # numbers for names of presets
    if to == 'open_clip':
        return _to_open_clip(tower, head, backbone, meta, base)
    if base is not None:
        raise CheckpointError('--base is for open_clip.')
    _refuse_what_only_open_clip_has(backbone, to)
    if to == 'timm':
        return _to_timm(tower, head, backbone)
    return _to_hugging_face(tower, head, backbone, meta)


def _split(
    state_dict: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The backbone's tensors without prefix, and the linear classifier's."""
    tower, head, others = {}, {}, []
    for key, tensor in state_dict.items():
        if key.startswith('backbone.'):
            tower[key.removeprefix('backbone.')] = tensor
        elif key.startswith(_HEAD):
            head[key] = tensor
        elif not key.startswith('data_preprocessor.'):
            others.append(key)
    if others or not tower:
        raise CheckpointError(
            'Only a backbone and a linear head can be exported; the '
            f'checkpoint holds {", ".join(others[:5]) or "no backbone"}.'
        )
    return tower, head


def _to_open_clip(
    tower: dict[str, Tensor],
    head: dict[str, Tensor],
    backbone: dict[str, Any],
    meta: dict[str, Any],
    base: Mapping[str, Tensor] | None,
) -> Export:
    dialect, prefix = _open_clip_names(backbone)
    notes = _note_head(head, 'open_clip')
    if backbone.get('out_type') == 'avg_featmap':
        notes.append(
            'OTHER features: it was fine-tuned with the mean of the patches, '
            'and open_clip pools as before'
        )
    source = meta.get('source', {})
    is_theirs = source.get('library') == 'open_clip'
    name = repr(source['name']) if is_theirs else 'NAME'
    if backbone.get('act') == 'quick_gelu':
        notes.append(
            'QuickGELU: force_quick_gelu=True, or the -quickgelu name'
        )
        name += ', force_quick_gelu=True'
    if base is None:
        if backbone['type'] == CLIP and 'proj' not in tower:
            raise CheckpointError(
                "open_clip's tower has a projection, and the checkpoint has "
                'none; pass --base with the open_clip weights that training '
                'started from.'
            )
        usage = (
            f'open_clip.create_model({name}).visual.load_state_dict(weights)'
        )
        tensors = export(tower, dialect, prefix.removeprefix('visual.'))
        return Export(tensors, usage, notes)
    tensors = export(tower, dialect, prefix)
    whole = {key: base[key] for key in base}
    if alien := [key for key in tensors if key not in whole]:
        raise CheckpointError(
            f'The base is another model: it has no {", ".join(alien[:5])}.'
        )
    check_complete(tensors, {key: whole[key] for key in tensors})
    kept = [key for key in whole if key not in tensors]
    notes.append(
        f'from the base: {len(kept)} tensors, of them of the image tower '
        f'{[key for key in kept if key.startswith("visual.")]}'
    )
    return Export(
        whole | tensors,
        f'open_clip.create_model({name}, pretrained=OUT)',
        notes,
    )


def _open_clip_names(backbone: dict[str, Any]) -> tuple[Dialect, str]:
    if backbone['type'] == OTHER:
        return OPEN_CLIP_TOWER, 'visual.'
    if backbone['type'] == SIGLIP or backbone.get('proj_bias'):
        return TIMM, 'visual.trunk.'
    return OPEN_CLIP, 'visual.'


def _to_timm(
    tower: dict[str, Tensor], head: dict[str, Tensor], backbone: dict[str, Any]
) -> Export:
    if head and 'proj' in tower:
        raise CheckpointError(
            'timm has one head: the checkpoint has both a projection and a '
            'classifier.'
        )
    notes = []
    if backbone.get('out_type') == 'avg_featmap':
        pool = [key for key in tower if key.startswith('attn_pool.')]
        tower = {key: tower[key] for key in tower if key not in pool}
        notes += [f'left out, not in use: {", ".join(pool)}'] if pool else []
    if 'proj' in tower and 'proj_bias' not in tower:
        tower = tower | dict(proj_bias=torch.zeros(tower['proj'].shape[1]))
        notes.append('added: a zero bias of the projection, as timm has it')
    dialect = TIMM_CLASSIFIER if head else TIMM
    tensors = export(tower | head, dialect)
    num_classes = len(tensors.get('head.bias', ()))
    arguments = timm_arguments(backbone, num_classes)
    norm = f'partial(torch.nn.LayerNorm, eps={backbone["norm_eps"]})'
    text = ', '.join(
        f'{key}={norm if key == "norm_layer" else repr(value)}'
        for key, value in arguments.items()
    )
    usage = f'timm.models.VisionTransformer({text}).load_state_dict(weights)'
    return Export(tensors, usage, notes)


def timm_arguments(backbone: dict[str, Any], num_classes: int) -> dict:
    """Arguments of timm's ``VisionTransformer`` for a backbone's config."""
    arch = backbone['arch']
    width, mlp_width = arch['width'], arch['mlp_width']
    is_clip = backbone['type'] == CLIP
    exact = int(mlp_width / width * width) == mlp_width
    pools = {'cls_token': 'token', 'attention': 'map', 'avg': 'avg'}
    by_mean = backbone.get('out_type') == 'avg_featmap'
    arguments = dict(
        img_size=backbone.get('img_size', 224),
        patch_size=backbone['patch_size'],
        embed_dim=width,
        depth=arch['depth'],
        num_heads=arch['num_heads'],
        mlp_ratio=(mlp_width if exact else mlp_width + 0.5) / width,
        num_classes=num_classes,
        class_token=is_clip,
        pre_norm=is_clip,
        global_pool='avg' if by_mean else pools[backbone['pool']],
        fc_norm=False,
        norm_layer=partial(torch.nn.LayerNorm, eps=backbone['norm_eps']),
        act_layer=backbone['act'],  # timm has the same names
    )
    if (init := backbone.get('layer_scale_init')) is not None:
        arguments['init_values'] = init
    return arguments


def _to_hugging_face(
    tower: dict[str, Tensor],
    head: dict[str, Tensor],
    backbone: dict[str, Any],
    meta: dict[str, Any],
) -> Export:
    is_clip = backbone['type'] == CLIP
    if not is_clip and backbone['pool'] != 'attention':
        raise CheckpointError('SiglipVisionModel pools by attention alone.')
    tensors = export(tower, HF_CLIP if is_clip else HF_SIGLIP, 'vision_model.')
    name = 'SiglipVisionModel'
    if is_clip:
        name = 'CLIPVisionModel' + 'WithProjection' * ('proj' in tower)
    files = {'config.json': _hugging_face_config(tower, backbone, name)}
    if preprocess := meta.get('preprocess'):
        files['preprocessor_config.json'] = _processor_config(
            preprocess, meta['img_size'], is_clip
        )
    return Export(
        tensors,
        f'transformers.{name}.from_pretrained(OUT)',
        _note_head(head, 'the vision models of transformers'),
        files,
    )


def _hugging_face_config(
    tower: dict[str, Tensor], backbone: dict[str, Any], name: str
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
    if 'proj' in tower:
        config['projection_dim'] = tower['proj'].shape[1]
    return config


def _processor_config(
    preprocess: dict[str, Any], img_size: int, is_clip: bool
) -> dict[str, Any]:
    resample = {v: k for k, v in INTERPOLATIONS.items()}
    crops = preprocess['resize_mode'] == 'shortest'
    square = dict(height=img_size, width=img_size)
    kind = 'CLIP' if is_clip else 'Siglip'
    config = dict(
        image_processor_type=f'{kind}ImageProcessor',
        do_resize=True,
        resample=resample[preprocess['interpolation']],
        size=dict(shortest_edge=img_size) if crops else square,
        do_center_crop=crops,
        do_rescale=True,
        do_normalize=True,
        image_mean=preprocess['mean'],
        image_std=preprocess['std'],
    )
    return config | dict(crop_size=square) if crops else config


def _refuse_what_only_open_clip_has(backbone: dict[str, Any], to: str) -> None:
    is_clip = backbone['type'] == CLIP
    reason = None
    if backbone['type'] == OTHER:
        reason = 'it is a tower of open_clip itself'
    elif is_clip and backbone['pool'] != 'cls_token':
        reason = f'it pools by {backbone["pool"]}'
    elif is_clip and not backbone['pre_norm']:
        reason = 'it has no norm before its blocks'
    elif to == 'hf' and backbone.get('out_type') == 'avg_featmap':
        reason = 'it was fine-tuned with the mean of the patches'
    if reason:
        raise CheckpointError(f'{to} cannot hold this tower: {reason}.')


def _note_head(head: dict[str, Tensor], where: str) -> list[str]:
    if not head:
        return []
    return [f'left out: {", ".join(head)} ({where} have no classifier)']
