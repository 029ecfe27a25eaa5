"""Mixed precision without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn

from mmclip.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """An optimizer wrapper with autocast to bfloat16, on the CPU too.

    mmengine's ``AmpOptimWrapper`` needs a GPU. bfloat16 has the range of
    float32, so it needs no loss scaling.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast for the forward pass."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
