"""Export of our checkpoints to open_clip, timm and Hugging Face."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmclip.checkpoint.files.atomic import TEMPORARY
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.checkpoint.finite import check_finite
from mmclip.checkpoint.meta import classes_of, make_clip, read_clip
from mmclip.checkpoint.state_dict import weights_of, without_prefix
from mmclip.checkpoint.towers.convert import check_complete
from mmclip.checkpoint.towers.hugging_face import to_hugging_face
from mmclip.checkpoint.towers.open_clip import to_open_clip
from mmclip.checkpoint.towers.timm import to_timm
from mmclip.checkpoint.towers.tower import (
    CLIP,
    OTHER,
    TIMM_TOWER,
    Export,
    build_backbone,
)
from mmclip.checkpoint.unconverted import CONVERTER
from mmclip.errors import CheckpointError, some

TARGETS: dict[str, Callable[..., Export]] = dict(
    open_clip=to_open_clip, timm=to_timm, hf=to_hugging_face
)
FOLDERS = ('hf',)  # the targets that are a folder, with JSON files
WEIGHTS = 'model.safetensors'  # in a folder
# Written next to them in a folder.
_FILES = ('config.json', 'preprocessor_config.json')


def export_checkpoint(
    checkpoint: Mapping[str, Any],
    to: str,
    base: Mapping[str, Tensor] | None = None,
) -> Export:
    """Rename the tower of one of our checkpoints, converted or fine-tuned.

    Args:
        checkpoint (Mapping): The checkpoint, with ``state_dict`` and
            ``meta['clip']``.
        to (str): One of ``TARGETS``.
        base (Mapping[str, Tensor] | None): For open_clip: a whole model. Its
            text tower is exported too, and its projection if ours has none.

    Raises:
        CheckpointError: If it is not one of our checkpoints or does not fit
            its backbone, or the other library has no place for a part of it.
    """
    said = read_clip(checkpoint)
    if said is None:
        raise CheckpointError(
            "The checkpoint has no meta['clip'], so its activation and number "
            f'of heads are unknown. Convert it first: {CONVERTER} NAME FILE '
            'OUT.pth --tag TAG.'
        )
    tower, head = _split(weights_of(checkpoint, 'The checkpoint'))
    module = build_backbone(said['backbone'], 'meta', len(tower))
    check_complete(tower, module.state_dict())
    check_finite(tower | head, 'The checkpoint', module)
    clip = make_clip(
        dict(type=said['backbone']['type']) | module.architecture(),
        module.img_size,
        said['preprocess'],
        said.get('source'),
        said.get('head'),
        classes_of(checkpoint),
    )
    if clip['backbone']['type'] == TIMM_TOWER and to != 'timm':
        raise CheckpointError(
            f'{to} cannot hold this tower: only timm can build it.'
        )
    if to != 'open_clip':
        if base is not None:
            raise CheckpointError('--base needs --to open_clip.')
        _refuse_what_only_open_clip_has(clip['backbone'], to)
    of_base = () if base is None else (base,)
    exported = TARGETS[to](tower, head, clip, *of_base)
    lost = () if to == 'timm' else ('head', 'classes')
    exported.clip = {key: clip[key] for key in clip if key not in lost}
    return exported


def write_export(exported: Export, out: Path) -> None:
    """Write an exported tower, whole or not at all.

    Raises:
        OSError: If it cannot be written; existing files stay as they were.
    """
    if not exported.files:
        is_safe = out.suffix == '.safetensors'
        write_checkpoint(
            _described(exported) if is_safe else exported.state_dict, out
        )
        return
    out.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, *_FILES):
        if (out / name).is_symlink():  # as in the hub's cache
            raise CheckpointError(
                f'{out / name} is a link. Export to another folder.'
            )
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=out) as folder:
        new = Path(folder)
        for name, content in exported.files.items():
            (new / name).write_text(json.dumps(content, indent=2) + '\n')
        write_checkpoint(_described(exported), new / WEIGHTS)
        # Weights are removed first and added last: nothing loads without them.
        for name in (WEIGHTS, *_FILES):
            (out / name).unlink(missing_ok=True)
        for name in (*exported.files, WEIGHTS):
            os.replace(new / name, out / name)


def _described(exported: Export) -> dict[str, Any]:
    meta = {} if exported.clip is None else dict(clip=exported.clip)
    return dict(meta=meta, state_dict=exported.state_dict)


def _split(
    state_dict: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a state dict into backbone, without prefix, and classifier."""
    tower = without_prefix(state_dict, 'backbone.')
    head = {k: state_dict[k] for k in state_dict if k.startswith('head.')}
    known = ('backbone.', 'head.', 'data_preprocessor.')
    others = [key for key in state_dict if not key.startswith(known)]
    if others or not tower:
        raise CheckpointError(
            'Only a backbone and a head can be exported; the checkpoint has '
            f'{some(others) or "no backbone"}.'
        )
    return tower, head


def _refuse_what_only_open_clip_has(backbone: dict[str, Any], to: str) -> None:
    is_clip = backbone['type'] == CLIP
    reason = None
    if backbone['type'] == OTHER:
        reason = 'only open_clip can build it'
    elif is_clip and backbone['pool'] != 'cls_token':
        reason = f'it pools by {backbone["pool"]}'
    elif is_clip and not backbone['pre_norm']:
        reason = 'it has no norm before its blocks'
    if reason:
        raise CheckpointError(f'{to} cannot hold this tower: {reason}.')
