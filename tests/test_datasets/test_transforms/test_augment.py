"""Our augmentation is mmpretrain's, in less time."""

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.registry import TRANSFORMS, init_default_scope
from mmpretrain.datasets.transforms.auto_augment import RANDAUG_POLICIES
from PIL import Image

from mmclip.datasets.resumable_sampler import SampleIndex

RANDAUGMENT = dict(
    type='RandAugment',
    policies='timm_increasing',
    num_policies=2,
    magnitude_level=9,
    magnitude_std=0.5,
    hparams=dict(pad_val=[104, 117, 123], interpolation='bicubic'),
)
ERASING = dict(
    type='RandomErasing',
    erase_prob=1.0,
    mode='rand',
    min_area_ratio=0.3,
    max_area_ratio=0.3,
    fill_color=[104.0, 117.0, 123.0],
    fill_std=[70.0, 67.0, 69.0],
)


def photo(low=10, high=240):
    random = np.random.default_rng(0)
    small = random.integers(low, high, (9, 7, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((64, 56)))


PHOTOS = {
    'photo': photo(),
    'pale': photo(90, 130),
    'one colour': np.full((8, 8, 3), 77, np.uint8),
    'black': np.zeros((4, 5, 3), np.uint8),
    'noise': np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8),
}


def build(cfg, scope=''):
    init_default_scope('mmpretrain')
    return TRANSFORMS.build(dict(cfg, type=scope + cfg['type']))


def run(transform, pixels, seed):
    """The pixels, and the next random number."""
    np.random.seed(seed)
    torch.manual_seed(seed)
    results = transform(dict(img=pixels.copy()))
    return results['img'], np.random.rand()


@pytest.mark.parametrize('name', PHOTOS)
@pytest.mark.parametrize(
    'policy',
    RANDAUG_POLICIES['timm_increasing'],
    ids=lambda policy: f'{policy["type"]} {policy.get("direction", "")}',
)
def test_each_operation_is_mmpretrains(policy, name):
    cfg = RANDAUGMENT | dict(policies=[policy], num_policies=1)
    theirs, ours = build(cfg), build(cfg, 'mmclip.')
    changed = 0
    for seed in range(12):
        wanted, then = run(theirs, PHOTOS[name], seed)
        found, ours_then = run(ours, PHOTOS[name], seed)
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == np.uint8
        assert ours_then == then
        changed += (wanted != PHOTOS[name]).any()
    assert changed or name in ('one colour', 'black', 'noise')


def test_whole_augmentation_is_mmpretrains():
    theirs, ours = build(RANDAUGMENT), build(RANDAUGMENT, 'mmclip.')
    for seed in range(40):
        wanted, _ = run(theirs, PHOTOS['photo'], seed)
        found, _ = run(ours, PHOTOS['photo'], seed)
        np.testing.assert_array_equal(found, wanted)


def test_fixed_magnitudes_are_mmpretrains():
    policies = [
        dict(type='Contrast', magnitude=0.6, prob=1.0),
        dict(type='Solarize', thr=100, prob=1.0),
        dict(type='Cutout', shape=8, prob=1.0),
    ]
    cfg = RANDAUGMENT | dict(policies=policies, num_policies=3)
    theirs, ours = build(cfg), build(cfg, 'mmclip.')
    for seed in range(6):
        wanted, _ = run(theirs, PHOTOS['photo'], seed)
        found, _ = run(ours, PHOTOS['photo'], seed)
        np.testing.assert_array_equal(found, wanted)


def erased(transform, seed):
    """Which pixels of a black image are filled, and their values."""
    black = np.zeros((224, 224, 3), np.uint8)
    pixels, _ = run(transform, black, seed)
    inside = pixels.any(axis=2)
    return inside, pixels[inside].astype(float)


def test_erasing_takes_mmpretrains_place_and_distribution():
    theirs, ours = build(ERASING), build(ERASING, 'mmclip.')
    where, wanted = erased(theirs, 0)
    found_where, found = erased(ours, 0)
    rows, columns = where.any(axis=1), where.any(axis=0)
    np.testing.assert_array_equal(found_where.any(axis=1), rows)
    np.testing.assert_array_equal(found_where.any(axis=0), columns)
    error = wanted.std(axis=0) * np.sqrt(2 / len(wanted))
    assert (abs(found.mean(axis=0) - wanted.mean(axis=0)) < 4 * error).all()
    assert found.std(axis=0) == pytest.approx(wanted.std(axis=0), rel=0.03)
    for value in (0, 255):  # clipped
        shares = [(v == value).mean(axis=0) for v in (found, wanted)]
        assert shares[0] == pytest.approx(shares[1], abs=0.01)


def test_erasing_follows_the_seed():
    ours = build(ERASING, 'mmclip.')
    a, b, c = (erased(ours, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert a.shape != c.shape or (a != c).any()


@pytest.mark.parametrize(
    'change', [dict(mode='const'), dict(fill_std=None)], ids=str
)
def test_other_fills_are_mmpretrains(change):
    cfg = ERASING | change
    wanted, _ = run(build(cfg), PHOTOS['photo'], 0)
    found, _ = run(build(cfg, 'mmclip.'), PHOTOS['photo'], 0)
    np.testing.assert_array_equal(found, wanted)


def test_a_sample_depends_on_its_seed_alone():
    """As a run needs that resumes exactly, with all of our transforms."""
    init_default_scope('mmpretrain')
    pipeline = Compose(
        [
            dict(type='mmclip.SeedSample'),
            dict(type='mmclip.RandomResizedCrop', scale=32),
            dict(type='RandomFlip', prob=0.5),
            dict(RANDAUGMENT, type='mmclip.RandAugment'),
            dict(ERASING, type='mmclip.RandomErasing', erase_prob=0.5),
        ]
    )

    def sample(seed):
        info = dict(img=photo(), sample_idx=SampleIndex(0, seed))
        return pipeline(info)['img']

    first = [sample(seed) for seed in range(20)]
    again = [sample(seed) for seed in reversed(range(20))]
    np.testing.assert_array_equal(first, again[::-1])
    assert len(np.unique(first, axis=0)) == 20
