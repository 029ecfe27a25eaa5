"""Merging of LoRA into ordinary weights with the same outputs."""

import copy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models.peft.lora import LoRALinear, LoRAModel
from torch import nn

from mmclip.checkpoint.describe import (
    describe_model,
    load_trained,
    pipeline_of,
)
from mmclip.checkpoint.meta import classes_of
from mmclip.errors import CheckpointError


def merge_lora(
    cfg: Config, checkpoint: dict[str, Any]
) -> tuple[Config, dict[str, Any]]:
    """Add the updates of LoRA to the weights that they update.

    Args:
        cfg (Config): A config whose model has a ``LoRAModel`` as backbone.
        checkpoint (dict): A checkpoint that was trained with it.

    Returns:
        tuple[Config, dict]: The config and the checkpoint of the same model
        without LoRA.

    Raises:
        CheckpointError: If the backbone is not a ``LoRAModel``, the
            checkpoint does not fit, or it was trained on other base weights.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(copy.deepcopy(cfg.model))
    if not isinstance(getattr(model, 'backbone', None), LoRAModel):
        raise CheckpointError(
            "The config's backbone is not a LoRAModel, so there is nothing "
            'to merge. Give the config that the checkpoint was trained with.'
        )
    load_trained(checkpoint, model)
    merge_modules(model)
    merged = copy.deepcopy(cfg)
    merged.model.backbone = copy.deepcopy(cfg.model.backbone.module)
    merged.model.backbone.pop('init_cfg')
    pipeline = pipeline_of(cfg.get('test_dataloader'))
    clip = describe_model(model, pipeline, classes_of(checkpoint))
    meta: dict[str, Any] = {} if clip is None else dict(clip=clip)
    for key in ('dataset_meta', 'epoch', 'iter'):
        if key in checkpoint.get('meta', {}):
            meta[key] = checkpoint['meta'][key]
    return merged, dict(meta=meta, state_dict=model.state_dict())


def merge_modules(model: nn.Module) -> None:
    """Replace every LoRA layer and model with what it wraps, in place.

    Sums are computed in float64 and rounded to the dtype of the weights.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            _set(model, name, _merged(module))
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRAModel):
            _set(model, name, module.module)


@torch.no_grad()
def _merged(lora: LoRALinear) -> nn.Linear:
    linear = lora.original_layer
    update = lora.lora_up.weight.double() @ lora.lora_down.weight.double()
    linear.weight.copy_(linear.weight.double() + lora.scaling * update)
    return linear


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition('.')
    setattr(model.get_submodule(parent), child, module)
