"""A data set of the images in a table."""

import json

import pytest
from mmpretrain.datasets import MultiLabelDataset
from mmpretrain.registry import DATASETS

from mmclip.errors import DataError

ROWS = [
    ('a.png', 'cat', 'train'),
    ('b/c.png', 'a|b', 'train'),
    ('"d, e.png"', '猫', 'val'),
]
CLASSES = ['a|b', 'cat', '猫']


@pytest.fixture
def table(tmp_path):
    def write(rows=ROWS, header='path,label,split', encoding='utf-8'):
        lines = [header, *(','.join(row) for row in rows)]
        path = tmp_path / 'split.csv'
        path.write_text('\n'.join(lines) + '\n', encoding=encoding)
        return str(path)

    return write


def built(table, classes=CLASSES, **settings):
    cfg = dict(type='mmclip.ImageTable', ann_file=table, classes=classes)
    return DATASETS.build(cfg | settings)


def infos(data):
    found = [data.get_data_info(i) for i in range(len(data))]
    return [(info['img_path'], info['gt_label']) for info in found]


def test_rows_of_a_split_are_its_images(table, tmp_path):
    path, root = table(), f'{tmp_path}/'
    assert infos(built(path, split='train')) == [
        (root + 'a.png', 1),
        (root + 'b/c.png', 0),
    ]
    assert infos(built(path, split='val', data_root='/x')) == [
        ('/x/d, e.png', 2)
    ]
    assert len(built(path)) == 3


def test_several_labels_are_lists_as_in_mmpretrain(table, tmp_path):
    path = table([('1.png', 'b|a', ''), ('2.png', '', ''), ('3.png', 'b', '')])
    data = built(path, ['a', 'b'], several_labels=True)
    assert [label for _, label in infos(data)] == [[1, 0], [], [1]]
    (tmp_path / 'theirs.json').write_text(
        json.dumps(dict(metainfo={}, data_list=data.load_data_list()))
    )
    theirs = MultiLabelDataset(str(tmp_path / 'theirs.json'))
    numbers = range(len(data))
    assert [data.get_cat_ids(i) for i in numbers] == [
        theirs.get_cat_ids(i) for i in numbers
    ]


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(rows=[('a', 'cta', 'x')]), "label 'cta'.*did you mean 'cat'"),
        (dict(rows=[('a', '', 'x')]), "label '', which is not one of the 3"),
        (dict(rows=[]), 'no image with split None'),
        (dict(rows=[('a', 'cat')]), 'fewer cells.*line 2'),
        (dict(rows=[('a', 'cat', 'x', 'y')]), 'more or fewer cells.*line 2'),
        (dict(rows=[('a', '"cat', 'x')]), 'damaged after line 1'),
        (dict(header='file,label,split'), 'lacks the column path'),
        (dict(encoding='utf-16'), 'damaged after line'),
    ],
)
def test_other_tables_are_refused(table, settings, message):
    with pytest.raises(DataError, match=message):
        built(table(**settings))
