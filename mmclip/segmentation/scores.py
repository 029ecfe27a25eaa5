"""From features of patches to scores of classes.

Shapes: B batch, D width of the joint space, M names, K classes, H W places.
"""

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
