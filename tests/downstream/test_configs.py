"""Every config trains and tests, with each package's own tools and ours."""

import re

import pytest

from tests.downstream.shrunken import CONFIGS

PACKAGES = ('mmseg', 'mmdet', 'mmpose')
TRAINED = [
    path
    for package in PACKAGES
    for path in sorted((CONFIGS / package).glob('*.py'))
    if 'zeroshot' not in path.name
]
METRICS = dict(mmseg='mIoU', mmdet='bbox_mAP', mmpose='coco/AP')


def name_of(path):
    return f'{path.parent.name}/{path.stem}'


def checkpoint_of(path):
    by_iteration = path.parent.name == 'mmseg' or 'mask-rcnn' in path.name
    return 'iter_2.pth' if by_iteration else 'epoch_1.pth'


@pytest.mark.parametrize('path', TRAINED, ids=name_of)
@pytest.mark.parametrize('whose', ['theirs', 'ours'])
def test_a_config_trains_and_tests(path, whose, run, ran):
    package = path.parent.name
    tool = package if whose == 'theirs' else 'mmclip'
    small = run(name_of(path))
    small.train('--work-dir', 'work', tool=tool)
    trained = f'work/{checkpoint_of(path)}'
    state_dict = small.load(trained)['state_dict']
    assert all(
        value.isfinite().all()
        for value in state_dict.values()
        if value.is_floating_point()
    )
    log = small.test(trained, '--work-dir', 'tested', tool=tool)
    assert re.search(rf'{METRICS[package]}: \d', log)
    ran(package, path.stem, f'train and test with {whose}')
