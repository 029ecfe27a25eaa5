"""Resizing by torch gives nearly Pillow's pixels, of the same crops."""

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import TRANSFORMS, init_default_scope
from PIL import Image

PILLOW = dict(backend='pillow')
# mmpretrain's arguments for images of 224 pixels.
RESIZES = {
    'crop': dict(type='RandomResizedCrop', scale=(192, 224)),
    'shortest': dict(type='ResizeEdge', scale=224),
    'longest': dict(type='ResizeEdge', scale=224, edge='long'),
    'squash': dict(type='Resize', scale=(224, 192)),
    'keep_ratio': dict(type='Resize', scale=(224, 192), keep_ratio=True),
}


def photo(width, height):
    random = np.random.default_rng(width + height)
    small = random.integers(0, 256, (height // 3, width // 3, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((width, height)))


def run(cfg, pixels, seed=0):
    np.random.seed(seed)
    init_default_scope('mmpretrain')
    results = dict(img=pixels.copy(), img_shape=pixels.shape[:2])
    return Compose([TRANSFORMS.build(cfg)])(results)


def ours(cfg, pixels, seed=0):
    return run(dict(cfg, type=f'mmclip.{cfg["type"]}'), pixels, seed)


def difference(a, b):
    return np.abs(a['img'].astype(int) - b['img'])


@pytest.mark.parametrize('size', [(500, 375), (97, 131), (224, 300)], ids=str)
@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('kind', RESIZES)
def test_pixels_are_nearly_pillows(kind, interpolation, size):
    cfg = RESIZES[kind] | dict(interpolation=interpolation)
    # Crops may be enlarged in one direction and reduced in the other.
    most, mean = (10, 0.25) if kind == 'crop' else (2, 0.01)
    for seed in range(3):
        found = ours(cfg, photo(*size), seed)
        wanted = run(cfg | PILLOW, photo(*size), seed)
        assert difference(found, wanted).max() <= most
        assert difference(found, wanted).mean() < mean
        found.pop('img')
        # mmpretrain's crop gives channels, too.
        shape = wanted.pop('img').shape[:2]
        assert found == wanted | dict(img_shape=shape)


def test_without_antialiasing_they_are_not():
    cfg = RESIZES['shortest'] | dict(interpolation='bicubic')
    pixels = photo(1000, 750)
    opencvs = run(cfg | dict(backend='cv2'), pixels)
    assert difference(opencvs, run(cfg | PILLOW, pixels)).mean() > 1
