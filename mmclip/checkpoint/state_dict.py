"""The weights in a checkpoint of whatever types."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmclip.errors import CheckpointError, some


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
