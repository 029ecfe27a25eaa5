"""Finding the data sets, and what is reported of them."""

import json

import pytest
from mmengine.config import Config

from mmclip.evaluation.robustness import NAMES, Result, find_sets
from mmclip.evaluation.robustness_report import to_markdown, write_report
from tests.shift_trees import write_images

PLACES = [
    ('imagenet', 'imagenet/val/n01440764'),
    (
        'imagenetv2-matched-frequency',
        'imagenetv2-matched-frequency-format-val/0',
    ),
    ('imagenetv2-threshold0.7', 'imagenetv2-threshold0.7-format-val/0'),
    ('imagenetv2-top-images', 'ImageNetV2-top-images/0'),
    ('imagenet-r', 'imagenet-r/n01443537'),
    ('imagenet-r', 'imagenet-r/imagenet-r/n01443537'),
    ('imagenet-a', 'imagenet-a/n01498041'),
    ('imagenet-sketch', 'sketch/n01440764'),
    ('imagenet-sketch', 'imagenet-sketch/sketch/n01440764'),
    ('objectnet', 'objectnet-1.0/images/chair'),
]


def config(**dataset: object) -> Config:
    dataset = dict(type='CustomDataset') | dataset
    return Config(dict(test_dataloader=dict(dataset=dataset)))


@pytest.mark.parametrize(('name', 'folder'), PLACES)
def test_published_and_nested_folders_are_found(tmp_path, name, folder):
    path = write_images(tmp_path / folder, '0.jpg')
    sets, missing = find_sets(config(), tmp_path, [name])
    assert sets[name]['data_root'] == str(path.parent)
    assert not missing


def test_missing_sets_are_told_with_where_they_were_looked_for(tmp_path):
    sets, missing = find_sets(config(), tmp_path)
    assert not sets
    assert list(missing) == list(NAMES)
    assert str(tmp_path / 'imagenet-a') in missing['imagenet-a']


def test_a_folder_without_class_folders_is_not_the_set(tmp_path):
    write_images(tmp_path / 'imagenet' / 'val', 'ILSVRC2012_val_00000001.JPEG')
    _, missing = find_sets(config(), tmp_path, ['imagenet'])
    assert list(missing) == ['imagenet']


def test_imagenet_may_be_the_configs_own_test_set(tmp_path):
    own = dict(
        type='mmclip.ImageNet', data_root=str(tmp_path / 'mine'), split='val'
    )
    names = ['imagenet', 'imagenet-real']
    _, missing = find_sets(config(**own), tmp_path, names)
    assert str(tmp_path / 'mine' / 'val') in missing['imagenet']
    (tmp_path / 'mine' / 'val').mkdir(parents=True)
    sets, missing = find_sets(config(**own), tmp_path, names)
    assert sets == dict.fromkeys(names, own)
    assert not missing


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no data set 'imagenet-c'"):
        find_sets(config(), tmp_path, ['imagenet-c'])


def test_the_table_has_a_cell_for_what_is_known_only():
    plain = Result('imagenet', 50000, 1000, 1000, 88.259, 98.5)
    shift = Result('imagenet-r', 30000, 200, 199, 83.96, 95, 97.6)
    table = to_markdown([plain, shift])
    first, second = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in table.splitlines()[2:4]
    ]
    assert first == ['imagenet', '50000', '1000', '88.3', '98.5', '', '']
    assert second[:4] == ['imagenet-r', '30000', '200 (199 found)', '84.0']
    assert second[-2:] == ['97.6', '-13.6']
    assert '| effective robustness |' not in table
    assert '--baseline DIR adds a column "effective robustness"' in table


def test_effective_robustness_is_what_exceeds_the_baseline(tmp_path):
    shift = Result('imagenet-r', 30000, 200, 200, 84, 95, 97.6, 60)
    table = write_report([shift], tmp_path, dict(checkpoint='x.pth'))
    assert '| effective robustness |' in table
    assert '|     97.6 |      -13.6 |                +24.0 |' in table
    assert '--baseline' not in table
    report = json.loads((tmp_path / 'table.json').read_text())
    assert report['checkpoint'] == 'x.pth'
    assert report['sets']['imagenet-r']['effective_robustness'] == 24
