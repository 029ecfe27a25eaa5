"""Resizing of position embeddings from one patch grid to another.

Both models (for images of another size) and checkpoints (when they are
loaded) need it, so it imports neither.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmclip.errors import CheckpointError

Grid = tuple[int, int]
# Keys in a state dict's metadata, where torch keeps its versions, that say
# what images the weights were made for.
PATCH_GRID = 'patch_grid'
IMAGE_SIZE = 'image_size'  # for open_clip's own towers


def square_grid(num_patches: int) -> Grid:
    """Return the grid of a square image cut into ``num_patches`` patches.

    Raises:
        ValueError: If no square grid has that many patches.
    """
    side = math.isqrt(num_patches)
    if side * side != num_patches:
        raise ValueError(
            f'{num_patches} patches do not form a square grid; only position '
            'embeddings of square images can be resized without knowing '
            'their grid.'
        )
    return side, side


def source_grid(num_patches: int, target: Grid, told: Any, name: str) -> Grid:
    """Return the patch grid that a position embedding was made for.

    Args:
        num_patches (int): How many patches it has embeddings for.
        target (tuple[int, int]): The patch grid of the backbone.
        told (Any): The grid that the weights state; None if they state none.
        name (str): What errors call it.

    Raises:
        CheckpointError: If the stated grid does not have that many patches,
            or none is stated and either of the two is not square.
    """
    if told is not None:
        sides = tuple(told) if isinstance(told, list | tuple) else ()
        if (
            len(sides) != 2
            or not all(type(side) is int and side > 0 for side in sides)
            or sides[0] * sides[1] != num_patches
        ):
            raise CheckpointError(
                f'{name} has {num_patches} patches, but the weights state a '
                f'patch grid of {told!r}.'
            )
        return sides[0], sides[1]
    side = math.isqrt(max(num_patches, 0))
    if side * side == num_patches and target[0] == target[1]:
        return side, side
    raise CheckpointError(
        f'{name} has {num_patches} patches, but nothing states how many rows '
        f'and columns; the backbone has {target[0]}x{target[1]}. Set '
        "dict(type='mmclip.PretrainedCLIP', img_size=(HEIGHT, WIDTH), ...) "
        'to the image size that the weights were trained with, or use a '
        "checkpoint that has meta['clip']."
    )


def resize_pos_embed(
    pos_embed: Tensor, source: Grid, target: Grid, num_prefix_tokens: int = 1
) -> Tensor:
    """Interpolate the patch part of a position embedding.

    Bicubic with antialiasing, in float32, as in open_clip's
    ``resize_pos_embed`` (``open_clip/model.py``). The embeddings of prefix
    tokens are kept.

    Args:
        pos_embed (Tensor): ``(1, P + H * W, C)``, the P prefix tokens first.
        source (tuple[int, int]): The patch grid ``(H, W)`` it was made for.
        target (tuple[int, int]): The patch grid ``(H', W')`` to resize to.
        num_prefix_tokens (int): P; 1 for a class token. Defaults to 1.

    Returns:
        Tensor: ``(1, P + H' * W', C)`` in the dtype of ``pos_embed``.
    """
    if source == target:
        return pos_embed
    prefix = pos_embed[:, :num_prefix_tokens]
    patches = pos_embed[:, num_prefix_tokens:]
    patches = patches.reshape(1, *source, -1).permute(0, 3, 1, 2)  # (1,C,H,W)
    # float32: CPUs have no half-precision kernel for this.
    patches = F.interpolate(
        patches.float(), target, mode='bicubic', antialias=True
    ).to(pos_embed.dtype)
    patches = patches.flatten(2).transpose(1, 2)  # (1, H' * W', C)
    return torch.cat([prefix, patches], dim=1)
