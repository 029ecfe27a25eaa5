"""Conversion of weights from any source to our checkpoints."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmclip.checkpoint.files.downloads import (
    only_cached_files_if_offline,
    refuse_damaged_json,
)
from mmclip.checkpoint.files.paths import WEIGHT_NAMES, is_local
from mmclip.checkpoint.meta import make_clip
from mmclip.checkpoint.towers.convert import (
    Conversion,
    check_complete,
    convert,
    recognise,
)
from mmclip.checkpoint.towers.dialects import (
    OPEN_CLIP_TOWER,
    TIMM,
    TIMM_CLASSIFIER,
    TIMM_MODEL,
    TIMM_MODEL_CLASSIFIER,
    Dialect,
)
from mmclip.checkpoint.towers.hugging_face import (
    hugging_face_source,
    is_hugging_face_config,
)
from mmclip.checkpoint.towers.open_clip import open_clip_source
from mmclip.checkpoint.towers.open_clip_tables import model_names
from mmclip.checkpoint.towers.timm import timm_source
from mmclip.checkpoint.towers.tower import (
    OTHER,
    TIMM_TOWER,
    Source,
    Tower,
    build_backbone,
)
from mmclip.errors import CheckpointError
from mmclip.models.library_towers.timm_tower import since

PREFIX = 'backbone.'
DTYPES = {
    'float32': torch.float32,
    'float16': torch.float16,
    'bfloat16': torch.bfloat16,
}


def convert_source(
    name: str,
    pretrained: str,
    tag: str | None = None,
    dtype: str = 'float32',
) -> tuple[dict[str, Any], Conversion]:
    """Convert the image tower of a CLIP model.

    Args:
        name (str): A model name from open_clip or timm, or a JSON file with a
            model config from open_clip or transformers.
        pretrained (str): A pretrained tag of that model, or a local file or
            folder; its tensors may have the names of open_clip, OpenAI, timm,
            Hugging Face or mmpretrain.
        tag (str | None): For a local file: the tag whose activation and
            preprocessing it uses, ``'none'`` to use the model config's.
        dtype (str): ``'float32'``, ``'float16'`` or ``'bfloat16'``. Defaults
            to ``'float32'``, whatever the source has.

    Returns:
        tuple[dict, Conversion]: The checkpoint (``state_dict`` with the
        prefix ``backbone.``, and ``meta['clip']``), and what became of every
        source key.

    Raises:
        CheckpointError: If anything is unknown, ambiguous or does not fit.
        FileNotFoundError: If a local file is missing.
    """
    source = find_source(name, pretrained, tag)
    return convert_found(source, pretrained, DTYPES[dtype])


def convert_found(
    source: Source, pretrained: str, dtype: torch.dtype = torch.float32
) -> tuple[dict[str, Any], Conversion]:
    """Convert a tower that has been looked up already."""
    tower, read = source
    weights = read()
    local = is_local(pretrained)
    try:
        conversion = convert(weights, dialect_of(tower, weights), dtype)
        _settle_projection(conversion, tower)
        whole = conversion.state_dict.items()
        check_complete(
            {k: tensor for k, tensor in whole if not k.startswith('head.')},
            build_backbone(tower.backbone, 'meta', len(weights)).state_dict(),
        )
        head = _describe_head(conversion.state_dict)
    except CheckpointError as error:
        what = pretrained if local else f'{tower.name} {pretrained}'
        raise CheckpointError(
            f'{what} cannot be converted as {tower.name}: {error}'
        ) from None
    file = Path(pretrained).name if local else None
    clip = make_clip(
        tower.backbone,
        tower.img_size,
        tower.preprocess,
        dict(library=tower.library, name=tower.name, tag=tower.tag, file=file),
        head,
    )
    checkpoint = dict(
        meta=dict(clip=clip),
        state_dict={
            key if key.startswith('head.') else PREFIX + key: tensor
            for key, tensor in conversion.state_dict.items()
        },
    )
    return checkpoint, conversion


def find_source(name: str, pretrained: str, tag: str | None = None) -> Source:
    """Find the tower that a name stands for, and its weights.

    Args and errors as in :func:`convert_source`.
    """
    if name and Path(name).is_dir():
        raise CheckpointError(
            f'{name} is a folder. Give a model name, or the config.json or '
            'open_clip_config.json in it.'
        )
    if is_hugging_face_config(name):
        if tag is not None:
            raise CheckpointError(
                f'--tag {tag} does not apply: {name} already states the '
                'activation.'
            )
        return hugging_face_source(name, pretrained)
    if _is_timm_name(name):
        return timm_source(name, pretrained, tag)
    return open_clip_source(name, pretrained, tag)


def convert_folder(
    folder: str | Path, name: str | None = None
) -> dict[str, Any]:
    """Convert a folder from open_clip or Hugging Face transformers.

    Args:
        folder (str | Path): A folder with ``open_clip_config.json`` (or
            transformers' ``config.json``) and the weights.
        name (str | None): Its name in the metadata. Defaults to the folder's
            name.

    Raises:
        FileNotFoundError: If it does not exist, or has neither config.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f'The folder {folder} does not exist.')
    for config in ('open_clip_config.json', 'config.json'):
        if (folder / config).is_file():
            tower, read = find_source(str(folder / config), str(folder))
            named = replace(tower, name=name or tower.name)
            return convert_found((named, read), str(folder))[0]
    raise FileNotFoundError(
        f'{folder} has neither an open_clip_config.json nor a config.json.'
    )


def convert_repository(repository: str) -> dict[str, Any]:
    """Convert a repository from the Hugging Face hub.

    Raises:
        CheckpointError: If it cannot be downloaded, or the files are damaged.
    """
    folder = _download_repository(repository)
    refuse_damaged_json(folder)
    return convert_folder(folder, repository)


def dialect_of(tower: Tower, source: Any) -> Dialect:
    """Return the names that the weights of a tower have."""
    if tower.backbone['type'] == OTHER:
        return OPEN_CLIP_TOWER
    if tower.backbone['type'] == TIMM_TOWER:
        return TIMM_MODEL_CLASSIFIER if tower.has_classifier else TIMM_MODEL
    dialect = recognise(source)
    if dialect is TIMM and tower.library == 'timm':
        has_classifier = tower.has_classifier
        if has_classifier is None and 'head.bias' in source:
            # timm gives CLIP's projections a zero bias; that of a trained
            # classifier is never exactly zero.
            has_classifier = bool(source['head.bias'].any())
        if has_classifier and 'head.weight' in source:
            return TIMM_CLASSIFIER
    return dialect


def _settle_projection(conversion: Conversion, tower: Tower) -> None:
    """Complete the config with what only the tensors tell of a projection."""
    tensors = conversion.state_dict
    if tower.library == 'timm' and 'proj' in tensors:
        tower.backbone.setdefault('proj_dim', tensors['proj'].shape[1])
    head = tensors.get('tower.head.weight')
    is_module = tower.backbone['type'] == TIMM_TOWER
    if is_module and head is not None and head.ndim == 2:
        tower.backbone.setdefault('proj_dim', len(head))
    bias = tensors.get('proj_bias')
    if bias is not None and not tower.backbone.get('proj_bias'):
        if bias.any():
            raise CheckpointError(
                "The checkpoint's projection has a bias, but this tower's has "
                'none.'
            )
        del tensors['proj_bias']
        keys = [k for k, v in conversion.mapped.items() if v == 'proj_bias']
        for key in keys:
            del conversion.mapped[key]
        conversion.left_out['zero bias of the projection'] = keys


def _describe_head(tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Describe a linear classifier by its tensors, None without one."""
    head = {k: t for k, t in tensors.items() if k.startswith('head.')}
    if not head:
        return None
    shapes = [tuple(head[k].shape) for k in sorted(head)]  # bias, weight
    if len(shapes) != 2 or [len(s) for s in shapes] != [1, 2]:
        raise CheckpointError(
            f'Its classifier is not a linear layer: {", ".join(head)} have '
            f'shapes {shapes}.'
        )
    num_classes, in_channels = shapes[1]
    if shapes[0] != (num_classes,):
        raise CheckpointError(
            f'Its classifier has a bias for {shapes[0][0]} classes, but '
            f'weights for {num_classes}.'
        )
    return dict(
        type='mmpretrain.LinearClsHead',
        num_classes=num_classes,
        in_channels=in_channels,
    )


def _is_timm_name(name: str) -> bool:
    # Imports take seconds: names of open_clip's own, and those that timm
    # cannot have, do without.
    if name in model_names() or not re.fullmatch('[a-z][a-z0-9_]+', name):
        return False
    import open_clip
    import timm

    if problem := since(name):
        if timm.is_model(name):
            return True
        raise CheckpointError(
            f'timm {timm.__version__} has no model {name!r}{problem}. Install '
            'a newer one: pip install --upgrade timm'
        )
    return timm.is_model(name) and name not in open_clip.list_models()


def _download_repository(repository: str) -> Path:
    try:
        with only_cached_files_if_offline():
            return _download_files(repository)
    except Exception as error:
        folder = repository.rpartition('/')[2]
        raise CheckpointError(
            f'hf-hub:{repository} could not be downloaded '
            f'({_first_sentence(error)}). Where there is a network, type: '
            f'hf download {repository} --local-dir {folder}; put the folder '
            f'here, and give local-dir:{folder} instead.'
        ) from error


def _first_sentence(error: Exception) -> str:
    return str(error).strip().partition('\n')[0].partition('. ')[0]


def _download_files(repository: str) -> Path:
    from huggingface_hub import constants, hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
    )

    folder = Path(snapshot_download(repository, allow_patterns='*.json'))
    for name in WEIGHT_NAMES:
        try:
            hf_hub_download(repository, name)
        except LocalEntryNotFoundError:  # if not offline, the network failed
            if not constants.HF_HUB_OFFLINE:
                raise
            continue
        except EntryNotFoundError:
            continue  # if none exists, convert_folder reports it
        if name.endswith('.index.json'):
            kind = name.split('.')[1]  # safetensors or bin
            snapshot_download(repository, allow_patterns=f'*.{kind}')
        break
    return folder
