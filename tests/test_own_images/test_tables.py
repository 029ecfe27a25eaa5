"""Tables of images, as people have them."""

import pytest

from mmclip.datasets import ImageTable
from mmclip.errors import ArgumentError, DataError
from mmclip.own_images.read import read_images
from tests.test_own_images.conftest import by_class, save_all

NAMES = [f'{i}.png' for i in range(4)]


def answers(images):
    """The labels of each image, by path."""
    return {
        path: [images.classes[label] for label in labels]
        for path, labels in zip(images.paths, images.labels, strict=True)
    }


@pytest.fixture
def table(tmp_path):
    """Write a table of four images."""
    save_all(tmp_path, *NAMES)

    def write(text, name='table.csv', encoding='utf-8'):
        path = tmp_path / name
        path.write_text(text, encoding=encoding)
        return path

    return write


ROWS = [*zip(NAMES, ('cat', 'dog', 'cat', 'dog'), strict=True)]
CAT_OR_DOG = {path: [name] for path, name in ROWS}


def lines(header, separator=','):
    rows = [header, *(f'{path}{separator}{name}' for path, name in ROWS)]
    return '\n'.join(rows) + '\n'


@pytest.mark.parametrize(
    'text, encoding',
    [
        (lines('path,label'), 'utf-8'),
        (lines('file_name,label'), 'utf-8-sig'),
        (lines('Image;Class', ';'), 'utf-8'),
        (lines('filename\tcategory', '\t'), 'utf-8'),
        (lines('path,label').replace('\n', '\r\n'), 'utf-8'),
        (lines('path,label').replace('.png', ''), 'utf-8'),
        (lines('path,label').replace('0.png', r'.\0.png'), 'utf-8'),
        (lines('"path","label"').replace('cat', '"cat"'), 'utf-8'),
        (lines(' path , label ').replace(',', ', '), 'utf-8'),
        (lines('path,labels'), 'utf-8'),
        ('\n' + lines('path,label') + '\n\n', 'utf-8'),
        (lines('id,path,label').replace('\n', '\n9,').strip('9,'), 'utf-8'),
        ('path,cat,dog\n0.png,1,0\n1.png,0,1\n2.png,1,0\n3.png,0,1', 'utf-8'),
    ],
)  # fmt: skip
def test_one_label_is_read_from_every_form(table, text, encoding):
    images = read_images(table(text, encoding=encoding))
    assert answers(images) == CAT_OR_DOG
    assert not images.several_labels


SEVERAL = {
    '0.png': ['big', 'cat'],
    '1.png': ['dog'],
    '2.png': ['cat'],
    '3.png': [],
}


@pytest.mark.parametrize(
    'text, name',
    [
        ('path,labels\n0.png,cat|big\n1.png,dog\n2.png,cat\n3.png,', 'a.csv'),
        ('path,labels\n0.png,cat; big\n1.png,dog\n2.png,cat\n3.png,', 'a.csv'),
        ('path;tags\n0.png;cat,big\n1.png;dog\n2.png;cat\n3.png;', 'a.csv'),
        (
            'filename, cat, dog, big\n0.png, 1, 0, 1\n1.png, 0, 1, 0\n'
            '2.png, 1, 0, 0\n3.png, 0, 0, 0',
            'a.csv',
        ),
        (
            '{"file_name": "0.png", "labels": ["cat", "big"]}\n'
            '{"file_name": "1.png", "labels": ["dog"]}\n'
            '{"file_name": "2.png", "labels": ["cat"]}\n'
            '{"file_name": "3.png"}\n',
            'a.jsonl',
        ),
    ],
)
def test_several_labels_are_read_from_every_form(table, text, name, tmp_path):
    images = read_images(table(text, name))
    assert images.several_labels
    assert answers(images) == SEVERAL
    assert [f.kind for f in images.findings] == ['unlabelled']
    images.write(tmp_path / 'split.csv')
    data = ImageTable(
        str(tmp_path / 'split.csv'), images.classes, several_labels=True
    )
    labels = [data.get_cat_ids(i) for i in range(len(data))]
    assert [[images.classes[n] for n in found] for found in labels] == [
        *SEVERAL.values()
    ]


@pytest.mark.parametrize(
    'column, names',
    [('split', ('training', 'VAL', 'test')), ('is_valid', ('False', 'True'))],
)
def test_splits_may_stand_in_a_column(table, column, names):
    splits = [names[0], names[0], names[1], names[-1]]
    text = ''.join(
        f'{path},{name},{split}\n'
        for (path, name), split in zip(ROWS, splits, strict=True)
    )
    images = read_images(table(f'path,label,{column}\n{text}'))
    last = 'test' if column == 'split' else 'val'
    assert images.splits == ('train', 'train', 'val', last)


def test_paths_may_be_relative_to_another_folder(table, tmp_path):
    path = table(lines('path,label'))
    (tmp_path / 'lists').mkdir()
    moved = path.rename(tmp_path / 'lists' / 'table.csv')
    images = read_images(moved, root=tmp_path)
    assert images.full_path(0) == str(tmp_path / '0.png')
    with pytest.raises(DataError, match=r'4 of the 4 images .*--root'):
        read_images(moved)
    with pytest.raises(ArgumentError, match='is a folder'):
        read_images(tmp_path, root=tmp_path)


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'its first line has nothing'),
        ('0.png,cat\n', "\"path\" and \"label\".*'0.png', 'cat'"),
        ('path,kind\n0.png,cat\n', "\"label\".*'path', 'kind'"),
        ('where,label\n0.png,cat\n', "\"path\"; .*'where', 'label'"),
        ('path,label\n', 'has no images'),
        ('path,label\n0.png,a, b\n', '1 row with more or fewer.*line 2'),
        ('path,label\n0.png,"a\n', 'not a CSV at line 2'),
        ('path,label\n0.png,cat\n1.png,\n', '1 row without a label.*line 3'),
        ('path,label\n,cat\n', '1 row without a path'),
        ('path,label\n0.png,cat\n1.png,cat\n', r'one class only \(cat\)'),
        ('path,label\n0.png,a\n0.png,b\n', 'more than one row: 0.png'),
        ('path,label\n' + ''.join(f'{x}.jpg,c\n' for x in 'abcd'),
         '4 of the 4 .*a.jpg, b.jpg, c.jpg and 1 more'),
        ('path,label,split\n0.png,cat,fold1\n', "split 'fold1' at line 2"),
        ('path,label,split\n0.png,cat,val\n', 'no training images, only val'),
        ('path,a|b,c\n0.png,1,1\n1.png,0,1\n', r"'a\|b' has a \|"),
    ],
)  # fmt: skip
def test_other_tables_are_refused(table, text, message):
    with pytest.raises(DataError, match=message):
        read_images(table(text))


def test_only_utf_8_is_read(table):
    path = table('path,label\n0.png,Käfer\n', encoding='cp1252')
    with pytest.raises(DataError, match='not UTF-8'):
        read_images(path)


def test_a_bar_in_a_single_label_is_said(table):
    images = read_images(table(lines('path,label').replace('cat', 'a|b')))
    assert images.classes == ('a|b', 'dog')
    assert images.findings[0].kind == 'separator'


def test_a_split_by_class_leaves_each_of_several_labels_for_training(
    tmp_path,
):
    names = [f'{i}.png' for i in range(30)]
    save_all(tmp_path, *names)
    labels = ['a|b' if i < 4 else 'a|c' if i < 6 else 'a' for i in range(30)]
    text = ''.join(f'{n},{x}\n' for n, x in zip(names, labels, strict=True))
    (tmp_path / 'table.csv').write_text('path,labels\n' + text)
    images = read_images(tmp_path / 'table.csv')
    assert by_class(images, 'val') == dict(a=6, b=1, c=1)


def test_shots_keep_a_class_that_comes_only_with_rarer_ones(tmp_path):
    save_all(tmp_path, *(f'{i}.png' for i in range(11)))
    labels = ['a|b'] * 3 + ['b'] * 2 + ['a|c'] * 3 + ['c'] * 2 + ['a']
    splits = ['train'] * 10 + ['val']
    rows = zip(range(11), labels, splits, strict=True)
    text = ''.join(f'{n},{label},{split}\n' for n, label, split in rows)
    (tmp_path / 'table.csv').write_text('path,labels,split\n' + text)
    for seed in range(10):
        images = read_images(tmp_path / 'table.csv', seed, shots=1)
        assert images.per_class('train').min() == 1
        assert len(images.rows('train')) in (2, 3)
