"""What backbones that hold another library's module have in common."""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import nn

from mmclip.errors import check_choice
from mmclip.models.library_towers.layers import layers_of
from mmclip.models.loading import refuse_whole_models

OUT_TYPES = ('pooled', 'featmap')
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


class LibraryTower(BaseModule):
    """Another library's image tower, with its layers and what is frozen.

    Subclasses build the module and run it.

    Args:
        tower (nn.Module): The module.
        out_type (str): ``'pooled'`` or ``'featmap'``.
        out_indices (int | Sequence[int] | None): With ``'featmap'``, which
            of the stages or blocks to return; None for all.
        frozen (bool): Keep all weights and the statistics of batch norms.
        frozen_stages (int): Keep those of the first parts: -1 of none, 0 of
            the stem, n also of the first n stages or blocks.
        norm_eval (bool): Keep the statistics of all batch norms.
        with_cp (bool): Recompute activations in the backward pass.
        init_cfg (dict | list[dict] | None): Where the weights come from.

    Raises:
        ValueError: If an argument is unknown, or the tower has no maps.
    """

    def __init__(
        self,
        tower: Any,
        *,
        out_type: str,
        out_indices: int | Sequence[int] | None,
        frozen: bool,
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool,
        init_cfg: dict | list[dict] | None,
    ):
        super().__init__(init_cfg)
        check_choice('out_type', out_type, OUT_TYPES)
        if out_type == 'pooled' and out_indices is not None:
            raise ValueError("out_indices needs out_type='featmap'.")
        if isinstance(out_indices, int):
            out_indices = [out_indices]
        if out_indices is not None and (
            not out_indices
            or list(out_indices)
            != sorted(set(out_indices), key=lambda i: (i < 0, i))
        ):
            raise ValueError(
                'out_indices must increase, with those from the end last, as '
                f'the maps come in that order; got {out_indices}.'
            )
        # open_clip 3.3.0's wrapper of timm gets maps from its trunk.
        trunk = getattr(tower, 'trunk', tower)
        if out_type == 'featmap' and not hasattr(
            trunk, 'forward_intermediates'
        ):
            raise ValueError(
                f'The tower, a {type(trunk).__name__}, has no feature maps.'
            )
        self.tower = tower
        self.out_type = out_type
        self.out_indices = None if out_indices is None else list(out_indices)
        self.frozen, self.norm_eval = frozen, norm_eval
        if with_cp:
            self.tower.set_grad_checkpointing()
        self.requires_grad_(not frozen)
        self.frozen_names = self._freeze(frozen_stages)
        self._layers, self._last_layer = layers_of(self.tower)
        self.register_load_state_dict_pre_hook(refuse_whole_models)

    def train(self, mode: bool = True) -> 'LibraryTower':
        """Set the mode; what is frozen stays in eval mode."""
        super().train(mode and not self.frozen)
        for name, module in self.tower.named_modules():
            own = [
                f'{name}.{key}'.removeprefix('.')
                for key, _ in module.named_parameters()
            ]
            is_frozen = own and self.frozen_names.issuperset(own)
            if is_frozen or (self.norm_eval and isinstance(module, NORMS)):
                module.eval()
        return self

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> tuple[int, int]:
        """Return a parameter's layer, for layer-wise learning rate decay.

        Args:
            param_name (str): The parameter's name in the whole model.
            prefix (str): This backbone's name in it, with the dot.

        Returns:
            tuple[int, int]: The layer (0 for the stem) and the number of
            layers; everything after the blocks is in the last.
        """
        last = self._last_layer
        if not param_name.startswith(prefix):
            return last, last + 1
        name = param_name.removeprefix(prefix).removeprefix('tower.')
        return self._layers.get(name, last), last + 1

    def _freeze(self, frozen_stages: int) -> set[str]:
        layers, last = layers_of(self.tower, stages=True)
        num_stages = last - 1
        if not -1 <= frozen_stages <= num_stages:
            raise ValueError(
                f'frozen_stages must be in [-1, {num_stages}] for this tower, '
                f'got {frozen_stages}.'
            )
        frozen = set()
        for name, param in self.tower.named_parameters():
            if layers[name] <= frozen_stages:
                param.requires_grad_(False)
                frozen.add(name)
        return frozen
