"""The check that weights are finite."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmclip.errors import CheckpointError, some


def check_finite(
    weights: Mapping[str, Any], what: object, model: nn.Module | None = None
) -> None:
    """Refuse weights with NaN or infinite values, before they are used.

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
        if isinstance(tensor, Tensor)
        and (tensor.is_floating_point() or tensor.is_complex())
        and not tensor.isfinite().all()
    ]
    if wrong and model is not None:
        masks = {k for k, v in model.named_buffers() if not v.isfinite().all()}
        wrong = [key for key in wrong if key not in masks]
    if wrong:
        raise CheckpointError(
            f'{what} is refused: {len(wrong)} of its tensors have NaN or '
            f'infinite values: {some(wrong)}. Use a checkpoint from before '
            'the training diverged.'
        )
