"""The configs as they are, with their real towers, on meta."""

import importlib

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from tests.downstream.shrunken import CONFIGS

PATHS = [
    path
    for package in ('mmseg', 'mmdet', 'mmpose')
    for path in sorted((CONFIGS / package).glob('*.py'))
]
# Of the blocks of CLIP's image towers: 12 * width**2 * depth, and biases.
PARAMETERS = dict(b=85.0e6, l=302.3e6)


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
@torch.no_grad()
def test_the_model_builds_in_its_real_size(path, ran):
    package = path.parent.name
    importlib.import_module(f'{package}.models')
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    numbers = sum(p.numel() for p in model.backbone.layers.parameters())
    wanted = PARAMETERS[path.stem.split('-')[1][0]]
    assert numbers == pytest.approx(wanted, rel=0.001)
    mean = [round(255 * m, 3) for m in (0.48145466, 0.4578275, 0.40821073)]
    assert [round(m, 3) for m in cfg.model.data_preprocessor.mean] == mean
    size = cfg.model.backbone.img_size
    height, width = (size, size) if isinstance(size, int) else size
    maps = model.backbone(torch.zeros(1, 3, height, width, device='meta'))
    patch = cfg.model.backbone.patch_size
    first = maps[0][0] if isinstance(maps[0], tuple) else maps[0]
    assert first.shape[-2:] == (height // patch, width // patch)
    assert (height % patch, width % patch) == (0, 0)
    ran(package, path.stem, 'built in its real size')
