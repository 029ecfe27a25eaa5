"""Images are looked over before a model sees them."""

import os
import shutil
import unicodedata

import pytest

from mmclip.engine.checks.duplicates import HEAD, find_copies
from mmclip.errors import DataError
from mmclip.own_images.read import read_images
from mmclip.own_images.survey import find_small, survey
from tests.test_own_images.conftest import save_all


def found(folder):
    """What is doubtful, apart from the small numbers of this test."""
    findings, _ = survey(read_images(folder))
    return {f.kind: f.paths for f in findings if f.kind != 'few'}


@pytest.fixture
def photos(tmp_path):
    return save_all(
        tmp_path,
        'train/cat/1.png',
        'train/cat/2.png',
        'train/dog/3.png',
        'val/cat/4.png',
        'val/dog/5.png',
    )


def test_good_images_raise_no_doubt(photos):
    assert found(photos) == {}


def test_all_unreadable_images_are_listed(photos):
    whole = (photos / 'train/cat/1.png').read_bytes()
    (photos / 'train/cat/1.png').write_bytes(whole[:-30])
    (photos / 'train/cat/2.png').write_bytes(b'')
    (photos / 'val/dog/5.png').write_text('not an image')
    with pytest.raises(DataError, match=r'^3 images cannot') as error:
        survey(read_images(photos))
    for name in ('train/cat/1.png', 'train/cat/2.png', 'val/dog/5.png'):
        assert str(photos / name) in str(error.value)


@pytest.mark.parametrize(
    'new, kinds',
    [
        ('train/cat/copy.png', {'copies'}),
        ('val/cat/copy.png', {'shared'}),
        ('train/dog/copy.png', {'contradictory'}),
        ('val/dog/copy.png', {'shared', 'contradictory'}),
    ],
)
@pytest.mark.parametrize('make', [shutil.copy, os.link, os.symlink])
def test_copies_and_links_are_told_apart_by_split_and_label(
    photos, new, kinds, make
):
    make(photos / 'train/cat/1.png', photos / new)
    findings = found(photos)
    assert set(findings) == kinds
    for paths in findings.values():
        assert set(paths) == {'train/cat/1.png', new}


def test_counts_that_are_uneven_few_or_lacking_are_named(tmp_path):
    save_all(
        tmp_path,
        *(f'train/cat/{i}.png' for i in range(40)),
        'train/dog/1.png',
        'val/cat/1.png',
    )
    findings, _ = survey(read_images(tmp_path))
    texts = {finding.kind: finding.text for finding in findings}
    assert set(texts) == {'uneven', 'few', 'lacking'}
    assert '40 times as many as dog (1)' in texts['uneven']
    assert texts['few'] == (
        'Fewer than 5 training images in 1 of 2 classes: dog (1).'
    )
    assert texts['lacking'] == 'The val set has no image of 1 class: dog.'


@pytest.mark.parametrize('other', ['Cat', 'cat_', 'c at', 'cät'])
def test_classes_with_nearly_the_same_name_are_said(tmp_path, other):
    first = unicodedata.normalize('NFD', 'cät') if other == 'cät' else 'cat'
    save_all(
        tmp_path,
        *(f'{name}/{i}.png' for name in (first, other) for i in '12'),
    )
    assert ('alike' in found(tmp_path)) == (other != 'c at')


def test_large_files_that_only_begin_alike_are_no_copies(tmp_path):
    paths = []
    for name, end in dict(a=b'1', b=b'2', c=b'1', d=b'22').items():
        path = tmp_path / name
        path.write_bytes(bytes(2 * HEAD) + end)
        paths.append(str(path))
    assert find_copies(paths) == [[paths[0], paths[2]]]


def test_one_training_image_per_class_is_said(tmp_path):
    splits = ('train', 'val')
    save_all(tmp_path, *(f'{s}/{c}/1.png' for s in splits for c in 'ab'))
    (finding,) = survey(read_images(tmp_path))[0]
    assert finding.text.startswith('No class has a second training image')


@pytest.mark.parametrize('size, small', [(8, 0), (9, 1), ((8, 9), 1)])
def test_images_smaller_than_the_models_input_are_named(photos, size, small):
    images = read_images(photos)
    assert len(find_small(images, survey(images)[1], size)) == small


def test_what_reading_left_out_is_said_too(photos):
    (photos / 'train/.hidden').touch()
    assert found(photos) == dict(hidden=('train/.hidden',))
