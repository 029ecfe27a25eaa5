"""State dicts: finding them in checkpoints, and other names for tensors."""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from mmclip.errors import CheckpointError, some

# Of torch.compile, FSDP and activation checkpointing.
_WRAPPERS = re.compile(
    r'\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.'
)


def weights_of(checkpoint: Mapping[str, Any], where: object) -> Any:
    """The state dict that a checkpoint has or is.

    Args:
        checkpoint (Mapping): As it was read.
        where (object): What errors call it, such as its path.

    Returns:
        dict[str, Tensor]: Perhaps with torch's metadata.

    Raises:
        CheckpointError: If it is not names and tensors.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    check_names(weights, where)
    if not weights:
        raise CheckpointError(f'{where} holds no state dict.')
    others = [k for k, v in weights.items() if not isinstance(v, Tensor)]
    if not others:
        return weights
    wrappers = [key for key in others if isinstance(weights[key], Mapping)]
    raise CheckpointError(
        f'{where} holds no state dict: {some(others)} '
        f'{"is not a tensor" if len(others) == 1 else "are not tensors"}'
        + (
            f'; if the weights are in {some(wrappers)}, save that dict alone, '
            "or as 'state_dict'."
            if wrappers
            else '.'
        )
    )


def check_names(weights: Any, where: object) -> None:
    """Refuse a state dict with keys that are not names.

    Raises:
        CheckpointError: Naming the first of them.
    """
    if not isinstance(weights, Mapping):
        raise CheckpointError(
            f'{where} holds no state dict, but a {type(weights).__name__}.'
        )
    others = [key for key in weights if not isinstance(key, str)]
    if others:
        raise CheckpointError(
            f'{where} holds no state dict: the keys must be names, and '
            f'{some(others)} {"is" if len(others) == 1 else "are"} not.'
        )


def without_wrapper(state_dict: Mapping[str, Any]) -> 'OrderedDict[str, Any]':
    """Keys without what wrappers of torch put into them.

    Such as ``module.`` of data-parallel training before all, which mmengine's
    runners take away, too, and ``_orig_mod.`` of ``torch.compile`` anywhere.
    """
    plain = renamed(state_dict, lambda key: _WRAPPERS.sub('', key))
    if len(plain) < len(state_dict):
        plain = renamed(state_dict, str)  # what would be one is not the same
    wrapped = all(key.startswith('module.') for key in plain)
    return without_prefix(plain, 'module.' if wrapped else '')


def without_prefix(
    state_dict: Mapping[str, Any], prefix: str
) -> 'OrderedDict[str, Any]':
    """The tensors below a prefix, and torch's metadata of theirs.

    Args:
        state_dict (Mapping): Perhaps with metadata.
        prefix (str): With its dot; ``''`` for a copy of all.
    """
    return renamed(
        state_dict,
        lambda key: (
            key.removeprefix(prefix) if key.startswith(prefix) else None
        ),
    )


def renamed(
    state_dict: Mapping[str, Any], rename: Callable[[str], str | None]
) -> 'OrderedDict[str, Any]':
    """Tensors under other names, and torch's metadata with them.

    Args:
        state_dict (Mapping): Perhaps with metadata.
        rename (Callable): Gives the new name; None to leave one out.
    """
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
    """What torch keeps with a state dict, by the names of modules."""
    known = getattr(state_dict, '_metadata', None)
    if not isinstance(known, dict):
        return {}
    return {key: value for key, value in known.items() if type(key) is str}
