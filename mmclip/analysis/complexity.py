"""Counts of a model's parameters and multiply-accumulate operations."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mmclip.errors import ConfigError


@dataclass(frozen=True)
class Complexity:
    """The cost of one image.

    Args:
        params (int): Number of parameters.
        macs (int): Multiply-accumulate operations of convolutions, linear
            layers and attention (both products), without norms, softmax,
            activations and additions. Papers often call this FLOPs. As
            there, all tokens of the last block count, even if it computes
            the class token only.
    """

    params: int
    macs: int


def count_complexity(cfg: Config, size: tuple[int, int]) -> Complexity:
    """Count the cost of a config's model, without memory for its weights.

    Args:
        cfg (Config): A config with a ``model`` whose forward takes a batch.
        size (tuple[int, int]): Image height and width in pixels.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    is_lora = _tower(cfg.model) is not cfg.model.get('backbone')
    # LoRA moves the weights that it wraps, which fails on meta; open_clip's
    # code fails with fake tensors.
    with FakeTensorMode() if is_lora else torch.device('meta'), quiet_init():
        model = MODELS.build(without_weights(cfg)).eval()
        image = torch.zeros(1, 3, *size)
    for module in model.modules():  # blocks with hooks compute all tokens
        module.register_forward_hook(lambda *_: None)
    # The counter fails on modules that are called with a parameter.
    model.requires_grad_(False)
    # torch counts a multiplication and an addition as two.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return Complexity(
        params=sum(p.numel() for p in model.parameters()),
        macs=counter.get_total_flops() // 2,
    )


def image_size(cfg: Config) -> tuple[int, int]:
    """Return the image size of a config's backbone, in pixels.

    Raises:
        ConfigError: If the config does not state it.
    """
    size = (_tower(cfg.model) or {}).get('img_size')
    if size is None:
        raise ConfigError(
            'model.backbone has no img_size: give the size of the images '
            '(--shape 224).'
        )
    return (size, size) if isinstance(size, int) else tuple(size)


def without_weights(cfg: Config) -> ConfigDict:
    """Copy a config's model, without the file of the tower's weights."""
    model = copy.deepcopy(cfg.model)
    tower = _tower(model)
    if tower is not None and 'init_cfg' in tower:
        tower.init_cfg = {}  # LoRA refuses None
    return model


@contextmanager
def quiet_init() -> Iterator[None]:
    """Suppress the log line that LoRA prints for each parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _tower(model: ConfigDict) -> ConfigDict | None:
    """Return the config of the backbone, if any, from inside LoRA too."""
    backbone = model.get('backbone')
    if not isinstance(backbone, dict):
        return None
    return backbone.get('module', backbone)
