"""Advice for weights that must be converted before our backbones load them."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmclip.checkpoint.files.paths import WEIGHT_NAMES
from mmclip.checkpoint.state_dict import weights_of, without_wrapper
from mmclip.checkpoint.towers.dialects import (
    MMPRETRAIN,
    PLAIN_DIALECTS,
    advise_on_prefix,
)
from mmclip.errors import CheckpointError, some

CONVERTER = 'mmclip convert'
CONFIGS = ('open_clip_config.json', 'config.json')


def refuse_unconverted(
    path: str, checkpoint: Mapping[str, Any], module: nn.Module
) -> None:
    """Refuse weights with names other than ours, and say how to convert them.

    Raises:
        CheckpointError: If it is not a state dict, or lacks most of the
            backbone's names.
    """
    weights = without_wrapper(weights_of(checkpoint, path))
    own = module.state_dict().keys()
    known = {key.removeprefix('backbone.') for key in weights} & own
    advice = advise(path, weights)
    if advice and len(known) < len(own) / 2:
        raise CheckpointError(f'{path} is not converted yet: {advice}')


def advise(path: str, weights: Mapping[str, Tensor]) -> str | None:
    """Say which library's names weights have, and how to convert them."""
    for dialect in PLAIN_DIALECTS:
        if dialect.prefix_in(weights) is not None:
            break
    else:
        if advice := advise_on_prefix(weights):
            return advice
        # Towers of open_clip that are not plain vision transformers.
        if not any(key.startswith('visual.') for key in weights):
            return None
        dialect = PLAIN_DIALECTS[0]
    if dialect is MMPRETRAIN:
        return None
    return f'it has the names of {dialect.name}. {_command(path)}'


def lacks_classifier(
    path: str, weights: Mapping[str, Tensor], model: nn.Module
) -> str | None:
    """Say that weights are a tower, but the model has a head, too."""
    has_head = any(
        not key.startswith('backbone.') for key in model.state_dict()
    )
    if not has_head or not all(key.startswith('backbone.') for key in weights):
        return None
    return (
        'it is an image tower without a classifier. To train one, name '
        "the tower in the backbone's init_cfg (type='mmclip.PretrainedCLIP'); "
        f'or make one with mmclip probe CONFIG {path}.'
    )


def not_a_file(path: str) -> str | None:
    """Say what to give instead of a folder or JSON file, None for others."""
    folder = Path(path).expanduser()
    if folder.suffix == '.json':
        folder = folder.parent
    elif not folder.is_dir():
        return None
    return (
        f"{path} is not a weight file. Give one, or use 'local-dir:{folder}' "
        f'if it has {" or ".join(CONFIGS)}.'
    )


def _command(path: str) -> str:
    """Return the command that converts a file, as far as it is known."""
    file = Path(path).expanduser()
    for config in CONFIGS:
        if (file.parent / config).is_file():
            if file.name in WEIGHT_NAMES:
                return f"Use 'local-dir:{file.parent}' instead."
            return f'Run {CONVERTER} {file.parent / config} {path} OUT.pth.'
    return (
        f'Run {CONVERTER} NAME {path} OUT.pth --tag TAG, where NAME is '
        f'{_names(file)}, and TAG is the pretrained tag whose activation and '
        'preprocessing they use.'
    )


def _names(file: Path) -> str:
    from mmclip.checkpoint.towers.inspect import inspect_weights

    names = []
    if file.is_file():
        with suppress(CheckpointError):  # then no name is suggested
            names = inspect_weights(file).names
    if not names:
        return "an open_clip or timm model, or your model config's JSON file"
    return f'{"one of " if len(names) > 1 else ""}{some(names)}'
