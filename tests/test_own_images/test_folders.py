"""Folders of images become one table."""

import os

import pytest
from PIL import Image

from mmclip.errors import ArgumentError, DataError
from mmclip.own_images.read import read_images
from tests.test_own_images.conftest import by_class, save, save_all

PAIR = ('train/cat/1.png', 'train/dog/2.png')


def kinds(images):
    return {finding.kind: finding.paths for finding in images.findings}


@pytest.mark.parametrize(
    'names',
    [
        ('train', 'val', 'test'),
        ('Training', 'VALIDATION', 'testing'),
        ('TRAIN', 'valid', 'Test'),
    ],
)
def test_splits_are_found_under_the_names_that_people_use(tmp_path, names):
    for name in names:
        save_all(tmp_path / name, 'cat/1.png', 'dog/2.png')
    images = read_images(tmp_path)
    found = {
        path.partition('/')[0]: split
        for path, split in zip(images.paths, images.splits, strict=True)
    }
    assert found == dict(zip(names, ('train', 'val', 'test'), strict=True))
    assert not images.made_split


def test_bare_class_folders_are_split_by_class(tmp_path):
    save_all(
        tmp_path,
        *(f'cat/{i}.png' for i in range(10)),
        *(f'dog/{i}.png' for i in range(5)),
        'owl/1.png',
    )
    images = read_images(tmp_path, seed=3)
    assert by_class(images, 'val') == dict(cat=2, dog=1)
    assert by_class(images, 'train') == dict(cat=8, dog=4, owl=1)
    assert images == read_images(tmp_path, seed=3)
    assert images.splits != read_images(tmp_path, seed=4).splits


def test_a_class_may_be_called_train(tmp_path):
    save_all(tmp_path, 'bus/1.png', 'bus/2.png', 'train/1.png', 'train/2.png')
    images = read_images(tmp_path)
    assert images.classes == ('bus', 'train')
    assert kinds(images) == dict(named_like_split=())


@pytest.mark.parametrize(
    'name', ['猫', '🐈 cat', 'a, b', 'a|b', '"quoted"', "O'Hara", 'é', '1']
)
def test_class_names_are_those_of_the_folders(tmp_path, name):
    save_all(tmp_path, f'{name}/1.png', f'{name}/2.png', 'x/1.png', 'x/2.png')
    images = read_images(tmp_path)
    assert sorted(images.classes) == sorted([name, 'x'])


@pytest.mark.parametrize('name', ['a\nb', 'a\u2028b', 'a\udcff'])
def test_names_that_a_text_file_cannot_hold_are_refused(tmp_path, name):
    save_all(tmp_path, f'{name}/1.png', 'x/1.png')
    with pytest.raises(DataError, match='rename it'):
        read_images(tmp_path)


def test_what_is_left_out_is_said(tmp_path):
    save_all(tmp_path, *PAIR, 'train/.old/1.png', 'more/1.png')
    (tmp_path / 'train/cat/notes.txt').write_text('notes')
    (tmp_path / 'train/empty').mkdir()
    save(tmp_path / 'train/dog/deeper/1.png')
    assert kinds(read_images(tmp_path)) == dict(
        left_out=('more',),
        hidden=('train/.old',),
        others=('train/cat/notes.txt',),
        empty=('train/empty',),
        nested=('train/dog/deeper/1.png',),
    )


def test_links_to_images_and_folders_are_followed(tmp_path):
    save_all(tmp_path / 'elsewhere', '1.png', '2.png')
    photos = save_all(tmp_path / 'photos', 'cat/1.png', 'cat/2.png')
    os.symlink(tmp_path / 'elsewhere', photos / 'dog')
    os.symlink(photos, photos / 'cat' / 'loop')
    assert by_class(read_images(photos)) == dict(cat=2, dog=2)


@pytest.mark.parametrize(
    'files, message',
    [
        ((), 'has no images: it is empty'),
        (('cat/1.heic', 'dog/2.heic'), r'but 2 files .*heic.*cat/1\.heic'),
        (('data/x.parquet',), r'but data/x\.parquet\. .*save_to_disk'),
        (('1.png', '2.png'), 'has 2 images and no class folders'),
        (('1.png', 't.csv'), r'If .*t\.csv lists them, give that'),
        (('cat/1.png',), r'one class only \(cat\)'),
        (
            ('in/cat/1.png', 'in/dog/2.png'),
            r'its folders cat, dog, give .*/in\.',
        ),
        (('cat/1.png', 'dog/1.png', '1.png'), 'outside its class folders'),
        (('val/cat/1.png', 'test/dog/1.png'), 'but no train/'),
        ((*PAIR, 'val/owl/1.png'), '1 class without training images: owl'),
        ((*PAIR, 'val/cat/1.png', 'valid/cat/1.png'), '2 folders of the val'),
        (('cat/1.png', 'dog/2.png'), 'has one image per class, so none'),
        (('train/1.png', 'val/1.png'), 'outside its class folders'),
    ],
)
def test_other_folders_are_refused(tmp_path, files, message):
    for name in files:
        path = tmp_path / name
        save(path)
        if path.suffix != '.png':
            path.write_text('')
    with pytest.raises(DataError, match=message):
        read_images(tmp_path)


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no file or folder .*photos'):
        read_images(tmp_path / 'photos')


def test_another_file_is_refused(tmp_path):
    (tmp_path / 'photos.zip').touch()
    with pytest.raises(DataError, match='neither a folder nor a table'):
        read_images(tmp_path / 'photos.zip')


def test_shots_keep_so_many_training_images_of_each_class(tmp_path):
    save_all(
        tmp_path,
        *(f'train/cat/{i}.png' for i in range(6)),
        *(f'train/dog/{i}.png' for i in range(2)),
        'val/cat/1.png',
        'val/dog/1.png',
    )
    images = read_images(tmp_path, shots=4)
    assert by_class(images, 'train') == dict(cat=4, dog=2)
    assert by_class(images, 'val') == dict(cat=1, dog=1)
    (finding,) = images.findings
    assert finding.text.startswith('2 of 8 training images are not used')


@pytest.mark.parametrize('number', [dict(seed=-1), dict(shots=0)])
def test_a_number_that_is_too_small_is_refused(tmp_path, number):
    with pytest.raises(ArgumentError, match='or more; got'):
        read_images(tmp_path, **number)


def test_copies_are_not_what_a_classifier_is_measured_by(tmp_path):
    save_all(
        tmp_path, *(f'{c}/{i}.png' for c in ('cat', 'dog') for i in (1, 2))
    )
    for c, colour in (('cat', 'red'), ('dog', 'blue')):
        Image.new('RGB', (9, 9), colour).save(tmp_path / c / 'own.png')
    images = read_images(tmp_path)
    held_out = {images.paths[row] for row in images.rows('val')}
    assert held_out == {'cat/own.png', 'dog/own.png'}
