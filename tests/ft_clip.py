"""Numbers of FT-CLIP's scripts, and the configs that reproduce them."""

import copy
import functools
from dataclasses import dataclass

import pytest
from mmengine import Config
from mmengine.registry import init_default_scope

from mmclip.engine.config.load import load_config
from tests.conftest import REPOSITORY

NUM_IMAGES = 1_281_167


@dataclass(frozen=True)
class Source:
    """Numbers of the scripts in FT-CLIP's scripts/."""

    lr: float
    layer_decay: float
    depth: int
    epochs: int
    warmup_epochs: int
    gpus: int
    batch: int  # images a step
    update_freq: int
    img_size: int
    freeze_conv1: bool

    @property
    def steps(self) -> int:
        return NUM_IMAGES // self.batch


SOURCES = {
    'clip-l-336': Source(6e-4, 0.65, 24, 30, 5, 24, 1920, 4, 336, False),
    'clip-l-224': Source(4e-4, 0.65, 24, 30, 5, 8, 2048, 4, 224, True),
    'clip-b16-224': Source(6e-4, 0.6, 12, 50, 10, 8, 2048, 1, 224, True),
}
every = pytest.mark.parametrize('name', SOURCES)


def load(name: str) -> Config:
    """Read a config of ``configs/clip``."""
    cfg = copy.deepcopy(_load(name))
    init_default_scope(cfg.default_scope)
    return cfg


@functools.cache
def _load(name: str) -> Config:
    return load_config(REPOSITORY / 'configs' / 'clip' / f'{name}.py')
