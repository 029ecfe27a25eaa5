"""Weights that a backbone of ours cannot load yet, and what makes them so."""

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
    Dialect,
    find_behind_prefix,
)
from mmclip.errors import CheckpointError, some

CONVERTER = 'python tools/model_converters/openclip_to_mmcls.py'
CONFIGS = ('open_clip_config.json', 'config.json')


def refuse_unconverted(
    path: str, checkpoint: Mapping[str, Any], module: nn.Module
) -> None:
    """Refuse weights with other names than ours, saying how to convert them.

    Args:
        path (str): Where they come from.
        checkpoint (Mapping): What was read there.
        module (nn.Module): The backbone that they are for.

    Raises:
        CheckpointError: If it is not a state dict, or most of the backbone is
            not in it under its own names.
    """
    weights = without_wrapper(weights_of(checkpoint, path))
    own = module.state_dict().keys()
    known = {key.removeprefix('backbone.') for key in weights} & own
    advice = advise(path, weights)
    if advice and len(known) < len(own) / 2:
        raise CheckpointError(f'{path} is not converted: {advice}')


def advise(path: str, weights: Mapping[str, Tensor]) -> str | None:
    """Whose names weights have, and the one step to ours.

    Args:
        path (str): The file, or any address of it.
        weights (Mapping[str, Tensor]): A state dict.

    Returns:
        str | None: Sentences; None if the names are ours or unknown.
    """
    for dialect in PLAIN_DIALECTS:
        if dialect.prefix_in(weights) is not None:
            break
    else:
        if found := find_behind_prefix(weights):
            return _remove_prefix(*found)
        # Towers that are modules of open_clip's own.
        if not any(key.startswith('visual.') for key in weights):
            return None
        dialect = PLAIN_DIALECTS[0]
    if dialect is MMPRETRAIN:
        return None
    return f'it has the names of {dialect.name}. {_command(path)}'


def not_a_file(path: str) -> str | None:
    """What to write instead of a folder or a JSON file, None for others."""
    folder = Path(path).expanduser()
    if folder.suffix == '.json':
        folder = folder.parent
    elif not folder.is_dir():
        return None
    if any((folder / name).is_file() for name in CONFIGS):
        return f"{path} is not a file of weights: write 'local-dir:{folder}'."
    return (
        f'{path} is not a file of weights: name one, or put the '
        f"{' or '.join(CONFIGS)} beside it and write 'local-dir:{folder}'."
    )


def _remove_prefix(prefix: str, dialect: Dialect) -> str:
    whose = 'ours' if dialect is MMPRETRAIN else f'those of {dialect.name}'
    return (
        f'before its names, which are {whose}, stands {prefix!r}. Save them '
        f'without it: torch.save({{k.removeprefix({prefix!r}): v for k, v in '
        f"weights.items() if k.startswith({prefix!r})}}, 'OUT.pth')."
    )


def _command(path: str) -> str:
    """What converts a file, as far as the file and its folder say it."""
    file = Path(path).expanduser()
    for config in CONFIGS:
        if (file.parent / config).is_file():
            if file.name in WEIGHT_NAMES:
                return f"Write 'local-dir:{file.parent}' instead."
            return f'Run {CONVERTER} {file.parent / config} {path} OUT.pth.'
    return (
        f'Run {CONVERTER} NAME {path} OUT.pth --tag TAG, where NAME is '
        f'{_names(file)}, and TAG the pretrained tag that they follow.'
    )


def _names(file: Path) -> str:
    from mmclip.checkpoint.towers.inspect import inspect_weights

    names = []
    if file.is_file():
        with suppress(CheckpointError):  # then nothing is known of it
            names = inspect_weights(file).names
    if not names:
        return "a model of open_clip or timm, or your model config's JSON file"
    return f'{"one of " if len(names) > 1 else ""}{some(names)}'
