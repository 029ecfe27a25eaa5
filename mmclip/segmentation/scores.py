"""From features of patches to scores of classes, and the best at each pixel.

Shapes: B batch, D width of the joint space, M names, K classes, H W places.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def name_logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compare features with names.

    Args:
        x (Tensor): ``(B, D, H, W)``, of any length.
        weight (Tensor): ``(M, D)``: embeddings times CLIP's logit scale.
        bias (Tensor): ``(M,)``.

    Returns:
        Tensor: ``(B, M, H, W)``.
    """
    x = F.normalize(x, dim=1)
    return F.conv2d(x, weight[:, :, None, None], bias)


def class_scores(
    logits: Tensor,
    class_of: Tensor,
    num_classes: int,
    background: int | None = None,
    threshold: float = 0.0,
) -> Tensor:
    """Return how likely each class is, by its likeliest name.

    Args:
        logits (Tensor): ``(B, M, H, W)``; their softmax over the names is
            taken.
        class_of (Tensor): ``(M,)``, the class of each name.
        num_classes (int): K.
        background (int | None): The class that a place belongs to if no other
            reaches the threshold. Defaults to None.
        threshold (float): In 0..1. Defaults to 0.

    Returns:
        Tensor: ``(B, K, H, W)``, in 0..1.
    """
    likely = logits.softmax(dim=1)
    batch, _, height, width = logits.shape
    scores = likely.new_zeros(batch, num_classes, height, width)
    places = class_of.view(1, -1, 1, 1).expand_as(likely)
    scores = scores.scatter_reduce(1, places, likely, 'amax')
    if background is not None:
        floor = scores[:, background].clamp(min=threshold)
        scores = scores.index_copy(
            1, class_of.new_tensor([background]), floor[:, None]
        )
    return scores


def enlarge_and_choose(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the best class of each pixel of a larger image.

    One class after another is enlarged, so that memory does not grow with
    their number.

    Args:
        scores (Tensor): ``(1, K, H, W)``.
        size (tuple[int, int]): Height and width in pixels.

    Returns:
        Tensor: ``(height, width)``, of int64.
    """
    best = torch.full(size, -torch.inf, device=scores.device)
    labels = torch.zeros(size, dtype=torch.int64, device=scores.device)
    for label in range(scores.shape[1]):
        (score,) = F.interpolate(
            scores[:, label : label + 1],
            size,
            mode='bilinear',
            align_corners=False,
        )[0]
        is_better = score > best
        best = torch.where(is_better, score, best)
        labels[is_better] = label
    return labels
