import io
import os
from types import SimpleNamespace

import pytest

from mmclip.errors import ArgumentError, DataError
from mmclip.predicting.inputs import find_images

NAMES = ['a/0.png', 'a/2.png', 'a/4.png', 'b/1.png', 'b/3.png']


@pytest.fixture
def here(photos, monkeypatch):
    """The folder above that of the images."""
    monkeypatch.chdir(photos.parent)
    return photos.parent


def test_a_folder_has_all_images_below_it(here, log):
    (here / 'photos' / 'notes.md').write_text('x')
    found = find_images('photos')
    assert found == [os.path.join('photos', name) for name in NAMES]
    assert 'left out 1 file' in log[0]


def test_an_image_is_itself(here):
    assert find_images('photos/a/0.png') == ['photos/a/0.png']


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('list.txt', 'a/0.png\n\n b/1.png \r\n'),
        ('list.csv', 'path,label\na/0.png,x\nb/1.png,y\n'),
        ('list.tsv', 'Image Path\tlabel\na/0.png\tx\nb/1.png\ty\n'),
        ('list.csv', '\ufefflabel; path\r\n"x;z";a/0.png\r\ny;b/1.png\r\n'),
    ],
    ids=['txt', 'csv', 'tsv', 'csv of Excel'],
)
@pytest.mark.parametrize('place', ['photos', '.'])
def test_a_list_is_of_paths_beside_it_or_from_here(here, name, text, place):
    path = here / place / name
    if place == '.':
        text = text.replace('a/', 'photos/a/').replace('b/', 'photos/b/')
        (here / 'lists').mkdir()
        path = here / 'lists' / name
    path.write_bytes(text.encode())
    found = find_images(path)
    assert [os.path.relpath(p, here / 'photos') for p in found] == [
        'a/0.png',
        'b/1.png',
    ]


def test_paths_of_a_list_may_begin_at_another_folder(here):
    """As in the tables of a run."""
    table = here / 'predictions.csv'
    table.write_text('path,split,label\na/0.png,val,a\nb/no.png,val,b\n')
    with pytest.raises(FileNotFoundError, match='begin at with --root'):
        find_images(table)
    found = find_images(table, 'photos')
    assert found == [
        os.path.join('photos', n) for n in ('a/0.png', 'b/no.png')
    ]
    with pytest.raises(ArgumentError, match='photos is not one'):
        find_images('photos', '.')


def test_standard_input_is_a_list(here, monkeypatch):
    names = b'photos/a/0.png\nphotos/\xff.png\n'
    stdin = SimpleNamespace(buffer=io.BytesIO(names))
    monkeypatch.setattr('sys.stdin', stdin)
    assert find_images('-') == ['photos/a/0.png', 'photos/\udcff.png']


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('x.txt', '\n', 'names no images'),
        ('x.txt', 'x.png\ny.png\n', 'None of the 2 images'),
        ('x.csv', 'x.png\ny.png\n', "column 'path'; its first line has x.png"),
        ('x.csv', '', "column 'path'; its first line has nothing"),
        ('x.md', 'text', 'is not an image, a folder, or a list'),
        ('empty/x.md', 'text', 'has no images: 1 other files'),
    ],
)
def test_what_is_no_image_is_refused(here, name, content, message):
    path = here / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    source = path.parent if path.parent.name == 'empty' else path
    with pytest.raises((DataError, FileNotFoundError), match=message):
        find_images(source)


def test_what_is_not_there_is_named(here):
    with pytest.raises(FileNotFoundError, match='no file or folder new'):
        find_images('new')
