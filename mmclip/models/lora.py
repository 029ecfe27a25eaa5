"""LoRA for a backbone: only small updates of its weights are trained."""

from typing import Any

import torch
from mmpretrain.models.peft.lora import LoRALinear
from mmpretrain.models.peft.lora import LoRAModel as _LoRAModel
from torch import Tensor

from mmclip.errors import CheckpointError
from mmclip.registry import MODELS

BASE = 'lora_base'
# Relative, of the mean magnitudes: lets rounding to half precision pass.
TOLERANCE = 1e-3


@MODELS.register_module()
class LoRAModel(_LoRAModel):
    """mmpretrain's ``LoRAModel``, with a check of the base weights.

    LoRA: https://arxiv.org/abs/2106.09685. Checkpoints hold everything but the
    base weights of this module, which come from the ``init_cfg`` of ``module``
    whenever the model is built. It differs from mmpretrain's in five ways:

    - Checkpoints keep the mean magnitude of each base tensor, so that
      different base weights are refused; mmpretrain's would use them.
    - Only this module's tensors are left out of a checkpoint. mmpretrain's
      drops all that precede them too, such as the counter of the moving
      average, which then restarts in a resumed run.
    - Unknown tensors in a checkpoint are not ignored.
    - Updates of blocks that the module freezes or does not run stay zero.
    - What ``init_cfg`` keeps ``fresh``, such as new norms of maps, is trained
      and saved, as no other file has it.

    ``mmclip merge-lora`` makes an ordinary checkpoint.

    Args:
        module (dict): The config of a backbone, with ``init_cfg``.
        alpha (int): The updates are scaled by alpha / rank. Defaults to 1.
        rank (int): Rank of the updates. Defaults to 0, so a target needs a
            rank of its own.
        drop_rate (float): Dropout before the updates. Defaults to 0.
        targets (list[dict]): Linear layers, by the end of their name or by a
            regular expression: ``dict(type='attn.qkv')``, optionally with
            their own ``alpha``, ``rank`` and ``drop_rate``.

    Raises:
        ValueError: If ``module`` has no ``init_cfg``, no layer matches, or
            all that do are frozen.
    """

    lora_base: Tensor

    def __init__(
        self,
        module: dict[str, Any],
        alpha: int = 1,
        rank: int = 0,
        drop_rate: float = 0.0,
        targets: list[dict[str, Any]] | tuple = (),
    ):
        if module.get('init_cfg') is None:
            raise ValueError(
                'LoRAModel: module has no init_cfg, and LoRA checkpoints do '
                'not hold its weights; set it, for example to '
                "dict(type='mmclip.PretrainedCLIP', checkpoint=...)."
            )
        super().__init__(module, alpha, rank, drop_rate, list(targets))

    # mmpretrain's constructor calls these two at its end.
    def _set_lora_trainable(self) -> None:
        layers = [m for m in self.modules() if isinstance(m, LoRALinear)]
        for layer in layers:  # of a frozen block, or of one that is not run
            if not layer.original_layer.weight.requires_grad:
                layer.requires_grad_(False)
        if not any(layer.lora_up.weight.requires_grad for layer in layers):
            raise ValueError('LoRAModel: all targets are frozen or not run.')
        params = dict(self.module.named_parameters())
        for name in self._base_names() & params.keys():
            params[name].requires_grad_(False)

    def _register_state_dict_hooks(self) -> None:
        base = self._base_names()
        magnitudes = [
            tensor.detach().abs().mean()
            for name, tensor in self.module.named_parameters()
            if name in base
        ]
        self.register_buffer(BASE, torch.stack(magnitudes))
        self._register_state_dict_hook(_leave_out_base)
        self.register_load_state_dict_pre_hook(_compare_base)
        self.register_load_state_dict_post_hook(_forgive_missing_base)

    def _base_names(self) -> set[str]:
        """Return the parameters of ``module`` that ``init_cfg`` loads."""
        given = self.module.init_cfg
        fresh = tuple(
            f'{part}.'
            for cfg in (given if isinstance(given, list) else [given])
            for part in cfg.get('fresh', ())
        )
        names = self.module.named_parameters(remove_duplicate=False)
        return {
            name
            for name, _ in names
            if '.lora_' not in name and not f'{name}.'.startswith(fresh)
        }


def _leave_out_base(
    module: LoRAModel, state_dict: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    for name in module._base_names():
        state_dict.pop(f'{prefix}module.{name}')


def _compare_base(
    module: LoRAModel, state_dict: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    theirs = state_dict.get(f'{prefix}{BASE}')
    ours = module.lora_base
    if theirs is None or ours.is_meta:
        return  # the strict check reports what is missing
    theirs = theirs.to(ours)
    if theirs.shape != ours.shape or not torch.allclose(
        theirs, ours, rtol=TOLERANCE
    ):
        raise CheckpointError(
            'The LoRA weights were trained on different base weights than '
            f'{module.module.init_cfg} loads: these have mean magnitudes '
            f'{ours[:3].tolist()} ..., those had {theirs[:3].tolist()} ...; '
            'set the init_cfg of module to those.'
        )


def _forgive_missing_base(module: LoRAModel, incompatible: Any) -> None:
    names = {f'module.{name}' for name in module._base_names()}
    # torch does not tell this module's prefix in the whole model.
    incompatible.missing_keys[:] = [
        key
        for key in incompatible.missing_keys
        if not any(key == n or key.endswith(f'.{n}') for n in names)
    ]
