"""Parameters and multiply-accumulate operations of a model."""

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
    """What one image costs.

    Args:
        params (int): Number of parameters.
        macs (int): Multiply-accumulate operations of convolutions, linear
            layers and attention (both products); no norms, softmax,
            activations or additions. The tables of the field call this FLOPs.
    """

    params: int
    macs: int


def count_complexity(cfg: Config, size: tuple[int, int]) -> Complexity:
    """Count for the model of a config, without memory for its weights.

    Args:
        cfg (Config): A config with a ``model`` whose forward takes a batch.
        size (tuple[int, int]): Image height and width in pixels.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    is_lora = _tower(cfg.model) is not cfg.model.get('backbone')
    # LoRA moves the weights that it wraps, which those on meta do not bear,
    # and open_clip does what fake ones do not bear.
    with FakeTensorMode() if is_lora else torch.device('meta'), quiet_init():
        model = MODELS.build(without_weights(cfg)).eval()
        image = torch.zeros(1, 3, *size)
    # The counter stumbles over modules that are called with a parameter.
    model.requires_grad_(False)
    # torch counts a multiplication and an addition as two.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return Complexity(
        params=sum(p.numel() for p in model.parameters()),
        macs=counter.get_total_flops() // 2,
    )


def image_size(cfg: Config) -> tuple[int, int]:
    """The image size that a config's backbone is made for, in pixels.

    Raises:
        ConfigError: If the config does not say.
    """
    size = (_tower(cfg.model) or {}).get('img_size')
    if size is None:
        raise ConfigError(
            'model.backbone has no img_size: name the size of the images '
            '(--shape 224).'
        )
    return (size, size) if isinstance(size, int) else tuple(size)


def without_weights(cfg: Config) -> ConfigDict:
    """A copy of a config's model that needs no file of the tower's weights."""
    model = copy.deepcopy(cfg.model)
    tower = _tower(model)
    if tower is not None and 'init_cfg' in tower:
        tower.init_cfg = {}  # LoRA refuses None
    return model


@contextmanager
def quiet_init() -> Iterator[None]:
    """Without a log line for each parameter, which LoRA would print."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _tower(model: ConfigDict) -> ConfigDict | None:
    """The config of the backbone, if any, also where LoRA is around it."""
    backbone = model.get('backbone')
    return backbone and backbone.get('module', backbone)
