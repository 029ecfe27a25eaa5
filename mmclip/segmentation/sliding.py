"""Windows that slide over an image, in pixels."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def slide(
    image: Tensor,
    call: Callable[[Tensor], Tensor],
    size: tuple[int, int],
    stride: tuple[int, int],
) -> Tensor:
    """Average the scores of overlapping windows.

    The last window of each row and column ends with the image. An image that
    is smaller than a window is one, with zeros at the right and the bottom.

    Args:
        image (Tensor): ``(1, 3, height, width)``, normalised.
        call (Callable): Maps ``(1, 3, *size)`` to scores ``(1, K, *size)``.
        size (tuple[int, int]): Height and width of a window in pixels.
        stride (tuple[int, int]): Steps in pixels.

    Returns:
        Tensor: ``(1, K, height, width)``.
    """
    height, width = image.shape[-2:]
    down, right = max(0, size[0] - height), max(0, size[1] - width)
    image = F.pad(image, (0, right, 0, down))
    whole = image.shape[-2:]
    total: Tensor | None = None
    count = image.new_zeros(1, 1, *whole)
    for top in _starts(whole[0], size[0], stride[0]):
        for left in _starts(whole[1], size[1], stride[1]):
            rows = slice(top, top + size[0])
            columns = slice(left, left + size[1])
            scores = call(image[..., rows, columns])
            if total is None:
                total = scores.new_zeros(1, scores.shape[1], *whole)
            total[..., rows, columns] += scores
            count[..., rows, columns] += 1
    assert total is not None
    return (total / count)[..., :height, :width]


def _starts(whole: int, size: int, stride: int) -> list[int]:
    return [*range(0, whole - size, stride), whole - size]
