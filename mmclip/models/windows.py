"""Windows of patches, and where they lie in the grid.

Shapes: B batch, N patches, W windows, S patches of a window, C channels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmclip.pos_embed import Grid


class Windows:
    """A grid of patches, cut into windows from the top left.

    Windows at the right and the bottom are padded with zeros, which
    :meth:`mask` hides. No window is larger than the grid.

    Args:
        grid (Grid): Rows and columns of patches.
        size (int): Rows and columns of a window.
    """

    def __init__(self, grid: Grid, size: int):
        self.grid = grid
        self.sides = tuple(min(size, side) for side in grid)
        self.counts = tuple(
            -(-whole // side)
            for whole, side in zip(grid, self.sides, strict=True)
        )

    def cut(self, x: Tensor) -> Tensor:
        """Map ``(B, heads, N, C)`` to ``(B * W, heads, S, C)``."""
        rows, columns = (
            count * side - whole
            for count, side, whole in zip(
                self.counts, self.sides, self.grid, strict=True
            )
        )
        x = F.pad(x.unflatten(2, self.grid), (0, 0, 0, columns, 0, rows))
        x = x.unflatten(3, (self.counts[1], self.sides[1]))
        x = x.unflatten(2, (self.counts[0], self.sides[0]))
        return x.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)

    def join(self, x: Tensor) -> Tensor:
        """Map ``(B * W, heads, S, C)`` back to ``(B, heads, N, C)``."""
        x = x.unflatten(0, (-1, *self.counts)).unflatten(4, self.sides)
        x = x.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)
        return x[:, :, : self.grid[0], : self.grid[1]].flatten(2, 3)

    def for_each(self, x: Tensor) -> Tensor:
        """Repeat ``(B, ...)`` for each window: ``(B * W, ...)``."""
        return x.repeat_interleave(self.counts[0] * self.counts[1], dim=0)

    def mask(
        self, batch: int, num_prefix: int, device: torch.device
    ) -> Tensor | None:
        """Return which keys are not padding: ``(B * W, 1, 1, prefix + S)``.

        Returns:
            Tensor | None: True for tokens; None if nothing is padded.
        """
        filled = [n * s for n, s in zip(self.counts, self.sides, strict=True)]
        if tuple(filled) == tuple(self.grid):
            return None
        there = torch.ones(1, 1, *self.grid, 1, device=device)
        there = self.cut(there.flatten(2, 3))[:, :, None, :, 0] > 0
        there = F.pad(there, (num_prefix, 0), value=True)
        return there.repeat(batch, 1, 1, 1)


def parse_global_blocks(
    blocks: Sequence[int] | None, depth: int
) -> tuple[int, ...]:
    """Return the blocks without windows: by default, the last of each quarter.

    Raises:
        ValueError: If the tower has no such block, or all are named.
    """
    if blocks is None:
        blocks = [-(-depth * i // 4) - 1 for i in range(1, 5)]
    parsed = tuple(sorted({i + depth if i < 0 else i for i in blocks}))
    if parsed and not (parsed[0] >= 0 and parsed[-1] < depth):
        raise ValueError(
            f'global_blocks must be indices of the {depth} blocks, got '
            f'{list(blocks)}.'
        )
    if len(parsed) == depth:
        raise ValueError(
            f'window_size would do nothing: all {depth} blocks are global. '
            'Name fewer in global_blocks.'
        )
    return parsed
