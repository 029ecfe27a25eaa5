"""The check that weights are finite numbers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmclip.errors import CheckpointError, some


def check_finite(
    weights: Mapping[str, Any], what: object, model: nn.Module | None = None
) -> None:
    """Refuse weights with NaN or infinite values, before they are used.

    torch also loads integers into a model of real numbers, which are refused,
    too.

    Args:
        weights (Mapping[str, Any]): A state dict.
        what (object): Its name in errors, such as a path.
        model (nn.Module | None): The model that they are for, if there is
            one. A buffer that has infinite values there, such as a mask, may
            have them here.

    Raises:
        CheckpointError: If there are any; names the first few.
    """
    wrong = [
        key
        for key, tensor in weights.items()
        if isinstance(tensor, Tensor) and not is_finite(tensor)
    ]
    if wrong and model is not None:
        masks = {k for k, v in model.named_buffers() if not is_finite(v)}
        wrong = [key for key in wrong if key not in masks]
    if wrong:
        raise CheckpointError(
            f'{what} is refused: {len(wrong)} of its tensors have NaN or '
            f'infinite values: {some(wrong)}. Use a checkpoint from before '
            'the training diverged.'
        )
    real = {
        name
        for name, param in ([] if model is None else model.named_parameters())
        if param.is_floating_point()
    }
    if integers := [
        key
        for key, tensor in weights.items()
        if key in real and not tensor.is_floating_point()
    ]:
        raise CheckpointError(
            f'{what} is refused: {some(integers)} must be real numbers.'
        )


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers of a tensor are finite, in one pass.

    The least and the greatest are, if and only if all are: NaN is both.
    """
    if tensor.is_complex():
        return is_finite(torch.view_as_real(tensor))
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.element_size() == 1:  # torch finds no least of these
        return bool(tensor.isfinite().all())
    return bool(torch.stack(tensor.aminmax()).isfinite().all())
