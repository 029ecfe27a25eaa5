"""From our checkpoints back to open_clip, timm and Hugging Face."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmclip.checkpoint.files.atomic import TEMPORARY
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.checkpoint.finite import check_finite
from mmclip.checkpoint.meta import Clip, classes_of, make_clip, read_clip
from mmclip.checkpoint.state_dict import weights_of
from mmclip.checkpoint.towers.convert import check_complete, export
from mmclip.checkpoint.towers.dialects import (
    HF_CLIP,
    HF_SIGLIP,
    OPEN_CLIP,
    OPEN_CLIP_TOWER,
    TIMM,
    TIMM_CLASSIFIER,
    Dialect,
)
from mmclip.checkpoint.towers.to_hugging_face import (
    CONFIG,
    HUGGING_FACE_FILES,
    PROCESSOR,
    hugging_face_files,
    what_hugging_face_lacks,
)
from mmclip.checkpoint.towers.to_timm_folder import timm_config
from mmclip.checkpoint.towers.tower import CLIP, OTHER, SIGLIP, build_backbone
from mmclip.checkpoint.unconverted import CONVERTER
from mmclip.errors import CheckpointError, some

TARGETS = ('open_clip', 'timm', 'hf')
ZERO_SHOT = 'mmclip.ZeroShotClsHead'
_HEAD = 'head.fc.'
_WEIGHTS = 'model.safetensors'
# In OpenAI's archives; open_clip's models have no place for them.
OPENAI_BUFFERS = (
    'input_resolution',
    'context_length',
    'vocab_size',
    'attn_mask',
)


@dataclass
class Export:
    """A tower in another project's names.

    Args:
        state_dict (dict[str, Tensor]): Its tensors.
        usage (str): The call that loads it there.
        notes (list[str]): What was left out or added.
        files (dict[str, dict]): JSON files that go beside the weights, by
            name; with any, the weights go into a folder.
        clip (dict | None): What a safetensors file says of it in its header.
    """

    state_dict: dict[str, Tensor]
    usage: str
    notes: list[str] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    clip: Clip | None = None


def export_checkpoint(
    checkpoint: Mapping[str, Any],
    to: str,
    base: Mapping[str, Tensor] | None = None,
) -> Export:
    """Rename the tower of a checkpoint of ours, converted or fine-tuned.

    Args:
        checkpoint (Mapping): With ``state_dict`` and, for what the tensors
            do not tell, ``meta['clip']``.
        to (str): ``'open_clip'``, ``'timm'`` or ``'hf'``.
        base (Mapping[str, Tensor] | None): For open_clip: the whole model
            whose text tower, and projection if ours has none, go with it.

    Raises:
        CheckpointError: If it is not a checkpoint of ours or does not fit its
            backbone, or the other project has no place for something in it.
    """
    meta = read_clip(checkpoint)
    if meta is None:
        raise CheckpointError(
            "The checkpoint has no meta['clip'], which says what its tensors "
            f'do not (heads, activation). Convert it first: {CONVERTER} NAME '
            'FILE OUT.pth --tag TAG.'
        )
    backbone = meta['backbone']
    tower, head = _split(weights_of(checkpoint, 'The checkpoint'))
    module = build_backbone(backbone, 'meta', len(tower))
    check_complete(tower, module.state_dict())
    check_finite(tower | head, 'The checkpoint', module)
    # Numbers for names of presets.
    backbone = backbone | module.architecture()
    exported = _export(checkpoint, to, backbone, meta, tower, head, base)
    exported.clip = make_clip(
        dict(type=backbone['type']) | module.architecture(),
        module.img_size,
        meta.get('preprocess'),
        meta.get('source'),
        # timm alone keeps a classifier.
        *((meta.get('head'), meta.get('classes')) if to == 'timm' else ()),
    )
    return exported


def _export(
    checkpoint: Mapping[str, Any],
    to: str,
    backbone: dict[str, Any],
    meta: Clip,
    tower: dict[str, Tensor],
    head: dict[str, Tensor],
    base: Mapping[str, Tensor] | None,
) -> Export:
    if to == 'open_clip':
        return _to_open_clip(tower, head, backbone, meta, base)
    if base is not None:
        raise CheckpointError('--base is for open_clip.')
    _refuse_what_only_open_clip_has(backbone, to)
    lacking = what_hugging_face_lacks(backbone) if to == 'hf' else None
    if to == 'hf' and lacking is None:
        return _to_hugging_face(tower, head, backbone, meta)
    if head and meta.get('head', {}).get('type') == ZERO_SHOT:
        raise CheckpointError(
            "timm's classifiers do not normalise the feature, as the "
            f'{ZERO_SHOT} of the checkpoint does: the logits would differ.'
        )
    exported = _to_timm(tower, head, backbone)
    if lacking is None:
        return exported
    return _in_timm_folder(
        exported, lacking, backbone, meta, classes_of(checkpoint)
    )


def write_export(exported: Export, out: Path) -> None:
    """Write an exported tower, whole or not at all.

    Args:
        exported (Export): Of :func:`export_checkpoint`.
        out (Path): A ``.safetensors`` or torch file; a folder, for
            ``from_pretrained``, if there are JSON files beside the weights.

    Raises:
        OSError: If it cannot be written; what was there is as before.
    """
    if not exported.files:
        is_safe = out.suffix == '.safetensors'
        write_checkpoint(
            _described(exported) if is_safe else exported.state_dict, out
        )
        return
    out.mkdir(parents=True, exist_ok=True)
    for name in (_WEIGHTS, *HUGGING_FACE_FILES):
        if (out / name).is_symlink():  # as in the hub's cache
            raise CheckpointError(
                f'{out / name} is a link: export to another folder.'
            )
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=out) as folder:
        new = Path(folder)
        for name, content in exported.files.items():
            (new / name).write_text(json.dumps(content, indent=2) + '\n')
        write_checkpoint(_described(exported), new / _WEIGHTS)
        # The weights go first and come last: without them nothing is loaded.
        for name in (_WEIGHTS, *HUGGING_FACE_FILES):
            (out / name).unlink(missing_ok=True)
        for name in (*exported.files, _WEIGHTS):
            os.replace(new / name, out / name)


def _described(exported: Export) -> dict[str, Any]:
    meta = {} if exported.clip is None else dict(clip=exported.clip)
    return dict(meta=meta, state_dict=exported.state_dict)


def _split(
    state_dict: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The backbone's tensors without prefix, and the linear classifier's."""
    tower, head, others = {}, {}, []
    for key, tensor in state_dict.items():
        key = str(key)
        if key.startswith('backbone.'):
            tower[key.removeprefix('backbone.')] = tensor
        elif key.startswith(_HEAD):
            head[key] = tensor
        elif not key.startswith('data_preprocessor.'):
            others.append(key)
    if others or not tower:
        raise CheckpointError(
            'Only a backbone and a linear head can be exported; the '
            f'checkpoint holds {some(others) or "no backbone"}.'
        )
    return tower, head


def _to_open_clip(
    tower: dict[str, Tensor],
    head: dict[str, Tensor],
    backbone: dict[str, Any],
    meta: dict[str, Any],
    base: Mapping[str, Tensor] | None,
) -> Export:
    import open_clip

    dialect, prefix = _open_clip_names(backbone)
    notes = _note_head(head, 'open_clip')
    pools_otherwise = backbone.get('out_type') == 'avg_featmap'
    if pools_otherwise:
        notes.append(
            'OTHER features: it was fine-tuned with the mean of the patches, '
            'and open_clip pools as before; timm and hf (--to) give the same'
        )
    source = meta.get('source', {})
    is_theirs = source.get('name') in open_clip.list_models()
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
                'none; '
                + (
                    'pass --to timm or --to hf, which can average patches as '
                    'it does.'
                    if pools_otherwise
                    else 'pass --base with the open_clip weights that '
                    'training started from, or --to timm or --to hf.'
                )
            )
        usage = (
            f'open_clip.create_model({name}).visual.load_state_dict(weights)'
        )
        tensors = export(tower, dialect, prefix.removeprefix('visual.'))
        return Export(tensors, usage, notes)
    tensors = export(tower, dialect, prefix)
    whole = {key: base[key] for key in base}
    if sizes := [key for key in OPENAI_BUFFERS if key in whole]:
        whole = {key: whole[key] for key in whole if key not in sizes}
        notes.append(f'left out of the base: {", ".join(sizes)}')
    if alien := [key for key in tensors if key not in whole]:
        raise CheckpointError(
            f'The base is another model: it has no {some(alien)}.'
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


def _in_timm_folder(
    exported: Export,
    lacking: str,
    backbone: dict[str, Any],
    meta: dict[str, Any],
    classes: Sequence[str] | None,
) -> Export:
    preprocess = meta.get('preprocess')
    num_classes = len(exported.state_dict.get('head.bias', ()))
    notes = [
        'transformers (4.53 or newer) calls timm for it, which must be '
        f'installed: its own models cannot be this tower, as {lacking}'
    ]
    wanted = ('mean', 'std', 'interpolation', 'resize_mode')
    unsaid = [key for key in wanted if key not in (preprocess or {})]
    if unsaid:
        notes.append(
            f'OTHER images: the checkpoint does not say {", ".join(unsaid)} '
            "of them, for which timm takes ImageNet's mean and std, and its "
            'own ways to resize: add those of the training to pretrained_cfg '
            f'in {CONFIG}'
        )
    arguments = timm_arguments(backbone, num_classes)
    kind = 'AutoModelForImageClassification' if num_classes else 'AutoModel'
    return Export(
        exported.state_dict,
        f'transformers.{kind}.from_pretrained(OUT), or timm.create_model('
        "'local-dir:OUT', pretrained=True)",
        exported.notes + notes,
        {
            CONFIG: timm_config(
                arguments, backbone['norm_eps'], preprocess, classes
            )
        },
    )


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
    dialect = HF_CLIP if backbone['type'] == CLIP else HF_SIGLIP
    tensors = export(tower, dialect, 'vision_model.')
    name, files = hugging_face_files(
        backbone, tower['proj'].shape[1] if 'proj' in tower else None, meta
    )
    notes = _note_head(head, 'the vision models of transformers')
    if PROCESSOR not in files:
        notes.append(
            f'no {PROCESSOR}: the checkpoint does not say all of how images '
            'are prepared'
        )
    return Export(
        tensors, f'transformers.{name}.from_pretrained(OUT)', notes, files
    )


def _refuse_what_only_open_clip_has(backbone: dict[str, Any], to: str) -> None:
    is_clip = backbone['type'] == CLIP
    reason = None
    if backbone['type'] == OTHER:
        reason = 'it is a tower of open_clip itself'
    elif is_clip and backbone['pool'] != 'cls_token':
        reason = f'it pools by {backbone["pool"]}'
    elif is_clip and not backbone['pre_norm']:
        reason = 'it has no norm before its blocks'
    if reason:
        raise CheckpointError(f'{to} cannot hold this tower: {reason}.')


def _note_head(head: dict[str, Tensor], where: str) -> list[str]:
    if not head:
        return []
    return [f'left out: {", ".join(head)} ({where} have no classifier)']
