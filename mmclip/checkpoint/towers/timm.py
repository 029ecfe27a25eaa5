"""CLIP and SigLIP image towers of timm: their properties and their files."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmclip.checkpoint.files.downloads import (
    only_cached_files_if_offline,
    refuse_damaged,
)
from mmclip.checkpoint.files.paths import (
    NO_TAG,
    SUFFIXES,
    is_local,
)
from mmclip.checkpoint.files.reading import read_state_dict
from mmclip.checkpoint.towers.tower import (
    CLIP,
    Source,
    Tower,
    backbone_from_timm,
)
from mmclip.errors import CheckpointError

# What timm's tags say of preprocessing.
PIXELS = ('mean', 'std', 'interpolation', 'crop_pct', 'crop_mode')


def timm_source(name: str, pretrained: str, tag: str | None = None) -> Source:
    """A tower of timm and its weights.

    Args:
        name (str): A model name of timm, such as
            ``'vit_large_patch14_clip_336'``.
        pretrained (str): A pretrained tag, or a local checkpoint file.
        tag (str | None): For a local file: the tag whose preprocessing it
            follows, and whose head it has; ``'none'`` for the name's own.

    Raises:
        CheckpointError: If a name or tag is unknown, the tower is not of
            CLIP's or SigLIP's form, or the weights want another activation.
        FileNotFoundError: If a local file is missing.
    """
    if is_local(pretrained):
        if tag is None:
            _refuse_ambiguity(name)
        tower = find_timm_tower(name, None if tag == NO_TAG else tag)
        return tower, lambda: read_state_dict(pretrained)
    if Path(pretrained).suffix in SUFFIXES or '/' in pretrained:
        raise FileNotFoundError(f'Checkpoint {pretrained} does not exist.')
    if tag is not None:
        raise CheckpointError(
            f'--tag {tag} is for local files, and {pretrained} is none.'
        )
    tower = find_timm_tower(name, pretrained)
    return tower, lambda: _download(f'{name}.{pretrained}')


def find_timm_tower(name: str, tag: str | None) -> Tower:
    """Look up the properties of an image tower of timm.

    Args:
        name (str): A model name of timm, without a tag.
        tag (str | None): One of its pretrained tags.
    """
    import timm

    tags = [full.partition('.')[2] for full in timm.list_pretrained(name)]
    if tag is not None and tag not in tags:
        near = difflib.get_close_matches(tag, tags, 3, 0.5) or tags
        raise CheckpointError(
            f'timm has no weights {name}.{tag}; there are '
            f'{", ".join(near) or "none of that name"}.'
        )
    _refuse_wrong_activation(name, tag)
    full_name = name if tag is None else f'{name}.{tag}'
    with torch.device('meta'):
        model = timm.create_model(full_name)
    backbone = backbone_from_timm(model)
    if backbone is None:
        raise CheckpointError(
            f"timm's {name} is not a CLIP or SigLIP vision transformer; see "
            "timm.list_models('vit_*clip*') and 'vit_*siglip*'."
        )
    # Tags of weights that were fine-tuned on labels have it in their name.
    has_classifier = None if tag is None else '_ft_in' in f'_{tag}'
    if has_classifier is False and backbone['type'] == CLIP:
        # timm gives a bias to projections that CLIP trains without one.
        backbone |= dict(proj_dim=model.num_classes)
        if tag is not None and tag.startswith('apple_mclip2'):
            backbone |= dict(proj_bias=True)
    return Tower(
        library='timm',
        name=name,
        tag=tag,
        backbone=backbone,
        img_size=backbone['img_size'],
        preprocess=_preprocess(model),
        has_classifier=has_classifier,
    )


def _refuse_ambiguity(name: str) -> None:
    """Refuse a local file without a tag where tags differ in more than it."""
    import timm

    twin = name.replace('_clip_', '_clip_quickgelu_')
    if twin != name and timm.is_model(twin):
        raise CheckpointError(
            f'{name} computes GELU, {twin} QuickGELU, and the file does not '
            'say which is its own: pass --tag with the tag that it follows '
            f"('{NO_TAG}': the activation of the name)."
        )
    settings = {
        tuple(timm.models.get_pretrained_cfg_value(full, k) for k in PIXELS)
        for full in timm.list_pretrained(name)
    }
    if len(settings) > 1:
        raise CheckpointError(
            f"timm's weights of {name} differ in preprocessing, and the file "
            'does not say which is its own: pass --tag with the tag that it '
            f"follows ('{NO_TAG}': what the name has by default)."
        )


def _refuse_wrong_activation(name: str, tag: str | None) -> None:
    """Timm has the same weights under a GELU and a QuickGELU name."""
    import timm

    twin = name.replace('_clip_', '_clip_quickgelu_')
    if 'quickgelu' in name or tag is None or twin == name:
        return
    if f'{twin}.{tag}' in timm.list_pretrained(f'{twin}*'):
        raise CheckpointError(
            f'The weights {tag} were trained with QuickGELU, and {name} '
            f'computes GELU: use {twin}.{tag}, the same file.'
        )


def _preprocess(model: nn.Module) -> dict[str, Any]:
    from timm.data import resolve_model_data_config

    data = resolve_model_data_config(model)
    modes = {'squash': 'squash', 'center': 'shortest'}
    preprocess = dict(
        mean=list(data['mean']),
        std=list(data['std']),
        interpolation=data['interpolation'],
        resize_mode=modes[data['crop_mode']],
    )
    if data['crop_pct'] != 1.0:
        preprocess['crop_pct'] = data['crop_pct']
    return preprocess


def _download(full_name: str) -> Mapping[str, Tensor]:
    """As timm itself reads them: its files have several formats."""
    import timm

    try:
        with only_cached_files_if_offline():
            return timm.create_model(full_name, pretrained=True).state_dict()
    except Exception as error:
        cfg = timm.get_pretrained_cfg(full_name)
        repository = (cfg and cfg.hf_hub_id) or full_name
        name, _, tag = full_name.partition('.')
        refuse_damaged(repository)
        raise CheckpointError(
            f'The weights of {full_name} could not be downloaded (no network, '
            'or the hub is out of reach); fetch them from '
            f'huggingface.co/{repository} elsewhere and pass the file: '
            f'{name} FILE OUT --tag {tag}.'
        ) from error
