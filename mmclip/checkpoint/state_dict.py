"""State dicts: finding them in checkpoints, checking and renaming keys."""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from mmclip.errors import CheckpointError, some

# Added to keys by torch.compile, FSDP and activation checkpointing.
_WRAPPERS = re.compile(
    r'\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.'
)


def weights_of(checkpoint: Mapping[str, Any], where: object) -> Any:
    """Return the state dict that a checkpoint has or is.

    Raises:
        CheckpointError: If keys are not strings or values not tensors.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    check_names(weights, where)
    if not weights:
        raise CheckpointError(f'{where} has no state dict.')
    if others := [k for k, v in weights.items() if not isinstance(v, Tensor)]:
        raise CheckpointError(
            f'{where} has no state dict: values must be tensors, unlike '
            f'{some(others)}. If one of these holds the weights, save it '
            "alone, or as 'state_dict'."
        )
    return weights


def check_names(weights: Any, where: object) -> None:
    """Refuse a state dict with keys that are not strings."""
    if not isinstance(weights, Mapping):
        raise CheckpointError(
            f'{where} has no state dict, but a {type(weights).__name__}.'
        )
    others = [key for key in weights if not isinstance(key, str)]
    if others:
        raise CheckpointError(
            f'{where} has no state dict: keys must be strings; found '
            f'{some(others)}.'
        )


def refuse_lora(state_dict: Mapping[str, Any], what: object) -> None:
    """Refuse updates of LoRA where the weights themselves are needed.

    Updates cannot be averaged either: the mean of factors is not the mean of
    their products.

    Raises:
        CheckpointError: If there are any.
    """
    keys = [
        key
        for key in state_dict
        if any(part.startswith('lora_') for part in key.split('.'))
    ]
    if keys:
        raise CheckpointError(
            f'{what} holds {len(keys)} LoRA tensors ({keys[0]}, ...), not the '
            'weights that they update: merge it first, with mmclip merge-lora.'
        )


def without_wrapper(state_dict: Mapping[str, Any]) -> 'OrderedDict[str, Any]':
    """Remove what torch's wrappers add to keys.

    Examples are ``module.`` before all keys, from data-parallel training
    (mmengine's runners remove it too), and ``_orig_mod.`` anywhere, from
    ``torch.compile``.
    """
    plain = renamed(state_dict, lambda key: _WRAPPERS.sub('', key))
    if len(plain) < len(state_dict):
        plain = renamed(state_dict, str)  # different keys would become one
    wrapped = all(key.startswith('module.') for key in plain)
    return without_prefix(plain, 'module.' if wrapped else '')


def without_prefix(
    state_dict: Mapping[str, Any], prefix: str
) -> 'OrderedDict[str, Any]':
    """Return the tensors with a prefix, without it, and their metadata."""
    return renamed(
        state_dict,
        lambda key: (
            key.removeprefix(prefix) if key.startswith(prefix) else None
        ),
    )


def renamed(
    state_dict: Mapping[str, Any], rename: Callable[[str], str | None]
) -> 'OrderedDict[str, Any]':
    """Rename tensors, and torch's metadata with them."""
    part: Any = OrderedDict(
        (name, tensor)
        for key, tensor in state_dict.items()
        if (name := rename(key)) is not None
    )
    part._metadata = OrderedDict(
        (name.removesuffix('.'), known)
        for module, known in metadata_of(state_dict).items()
        if (name := rename(f'{module}.' if module else '')) is not None
    )
    return part


def metadata_of(state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metadata that torch keeps with a state dict, by module."""
    known = getattr(state_dict, '_metadata', None)
    if not isinstance(known, dict):
        return {}
    return {key: value for key, value in known.items() if type(key) is str}
