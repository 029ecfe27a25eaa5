"""A data set that a probe of random weights gets partly right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmclip.analysis.parity import randomize
from mmclip.checkpoint import write_checkpoint
from mmclip.engine.config.load import load_config
from tests.test_commands.conftest import write_config

NUM_CLASSES, NUM_TRAIN, NUM_TEST = 4, 20, 10  # images of each class
CONFIG = """
_base_ = ['base.py']
load, pack = dict(type='LoadImageFromFile'), dict(type='PackInputs')
# What probing must not do to its training images.
flip = dict(type='RandomFlip', prob=1.0, direction='vertical')
loader = dict(batch_size=7, num_workers=0)
train_dataloader = dict(loader, dataset=dict(
    data_root='{root}', data_prefix='train', pipeline=[load, flip, pack],
    serialize_data=False,  # which would collect garbage for half a second
))
test_dataloader = dict(loader, dataset=dict(
    data_root='{root}', data_prefix='test', pipeline=[load, pack],
    serialize_data=False,
))
val_dataloader = test_dataloader
model = dict(
    data_preprocessor=dict(num_classes=4),
    backbone=dict(drop_path_rate=0.0),
    head=dict(num_classes=4),
)
custom_hooks = []
"""


def make_project(folder: Path) -> Path:
    """Write images, ``config.py`` and ``tower.pth`` with random weights."""
    random = np.random.default_rng(0)
    for split, number in (('train', NUM_TRAIN), ('test', NUM_TEST)):
        for label in range(NUM_CLASSES):
            target = folder / 'images' / split / f'class{label}'
            target.mkdir(parents=True)
            for i in range(number):
                color = random.normal(110, 25, 3)
                if label:
                    color[label - 1] += 60
                pixels = random.normal(color, 20, (32, 32, 3))
                pixels = pixels.clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(target / f'{i}.png')
    write_config(folder).rename(folder / 'base.py')
    config = folder / 'config.py'
    config.write_text(CONFIG.format(root=folder / 'images'))
    cfg = load_config(config)
    torch.manual_seed(0)
    backbone = MODELS.build(cfg.model.backbone)
    randomize(backbone)
    tensors = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    write_checkpoint(dict(state_dict=tensors), folder / 'tower.pth')
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with images, a config and a tower."""
    return make_project(tmp_path)


@pytest.fixture
def cfg(project: Path) -> Config:
    """The config of the project."""
    cfg = load_config(project / 'config.py')
    init_default_scope(cfg.default_scope)
    return cfg
