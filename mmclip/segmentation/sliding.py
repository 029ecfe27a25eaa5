"""Windows that slide over an image, in pixels."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def slide(
    image: Tensor,
    call: Callable[[Tensor], Tensor],
    size: tuple[int, int],
    stride: tuple[int, int],
    weight: Tensor | None = None,
) -> Tensor:
    """Average the scores of overlapping windows.

    The last window of each row and column ends with the image. An image that
    is smaller than a window is one, with zeros at the right and the bottom.

    Args:
        image (Tensor): ``(1, 3, height, width)``, normalised.
        call (Callable): Maps ``(1, 3, *size)`` to scores ``(1, K, *size)``.
        size (tuple[int, int]): Height and width of a window in pixels.
        stride (tuple[int, int]): Steps in pixels.
        weight (Tensor | None): How much each pixel of a window counts,
            ``size``, more than 0. Defaults to None: all alike.

    Returns:
        Tensor: ``(1, K, height, width)``.
    """
    height, width = image.shape[-2:]
    down, right = max(0, size[0] - height), max(0, size[1] - width)
    image = F.pad(image, (0, right, 0, down))
    whole = image.shape[-2:]
    if weight is None:
        weight = image.new_ones(size)
    total: Tensor | None = None
    count = image.new_zeros(1, 1, *whole)
    for top in _starts(whole[0], size[0], stride[0]):
        for left in _starts(whole[1], size[1], stride[1]):
            rows = slice(top, top + size[0])
            columns = slice(left, left + size[1])
            scores = call(image[..., rows, columns])
            if total is None:
                total = scores.new_zeros(1, scores.shape[1], *whole)
            total[..., rows, columns] += weight * scores
            count[..., rows, columns] += weight
    assert total is not None
    return (total / count)[..., :height, :width]


def falling_to_the_edges(size: tuple[int, int]) -> Tensor:
    """Return weights that fall linearly from a window's centre to its edges.

    With steps of half a window, scores of whole windows are interpolated
    between their centres.
    """
    down, across = (1 - (2 * torch.arange(n) + 1 - n).abs() / n for n in size)
    return down[:, None] * across


def _starts(whole: int, size: int, stride: int) -> list[int]:
    return [*range(0, whole - size, stride), whole - size]
