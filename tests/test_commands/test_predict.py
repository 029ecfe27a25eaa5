import csv

import pytest

from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.commands.predict import main
from mmclip.predicting import predictions
from tests.conftest import save_whole_model
from tests.test_predicting.conftest import checkpoint, save_photos


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'model.safetensors'
    write_checkpoint(checkpoint(), path)
    return path


@pytest.fixture
def photos(tmp_path):
    return save_photos(tmp_path / 'photos')


def read(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_table_and_a_page(call, model, photos, tmp_path):
    files = ['--csv', 'out/out.csv', '--html', 'out/out.html']
    result = call(main, model, 'photos', *files)
    assert result.code == 0
    assert [row['path'] for row in read(tmp_path / 'out/out.csv')][:2] == [
        'photos/a/0.png',
        'photos/a/2.png',
    ]
    assert (tmp_path / 'out/out.html').read_text().count('<img') == 5
    assert result.out.splitlines()[-2:] == [
        'wrote out/out.csv (the answers)',
        'wrote out/out.html (a page that shows them)',
    ]
    again = call(main, model, 'photos', *files)
    assert again.code == 1
    assert '--force' in again.err


def test_few_answers_are_printed(call, model, photos):
    result = call(main, model, 'photos/a/0.png')
    (row,) = result.out.splitlines()
    assert row.startswith('photos/a/0.png: ')
    assert row.endswith((' %', ' % (not sure)'))


def test_many_answers_are_counted(call, model, photos, monkeypatch):
    monkeypatch.setattr(predictions, 'SHOWN', 4)
    assert call(main, model, 'photos').out.startswith('5 images')


def test_unreadable_images_are_named_and_the_rest_answered(
    call, model, photos, tmp_path
):
    for name in ('x', 'y'):
        (photos / f'{name}.jpg').write_bytes(b'broken')
    result = call(main, model, 'photos', '--csv', 'out.csv')
    assert result.code == 1
    *named, last = result.err.splitlines()[-3:]
    assert [name in line for name, line in zip('xy', named, strict=True)]
    assert last == ('error: 2 of 7 images cannot be read and have no answer.')
    rows = read(tmp_path / 'out.csv')
    assert [row['prediction'] == '' for row in rows].count(True) == 2


def test_the_table_of_a_run_needs_the_root_of_its_images(
    call, model, photos, tmp_path
):
    (tmp_path / 'split.csv').write_text('path,label,split\na/0.png,a,val\n')
    result = call(main, model, 'split.csv')
    assert result.code == 1
    assert result.err.endswith('begin at with --root.\n')
    assert call(main, model, 'split.csv', '--root', 'photos').code == 0


def test_a_list_may_have_missing_images(call, model, photos, tmp_path):
    (tmp_path / 'list.txt').write_text('photos/a/0.png\nphotos/no.png\n')
    result = call(main, model, 'list.txt')
    assert result.code == 1
    assert 'photos/no.png: no such file' in result.err


LONG = ', '.join(f'class number {i}' for i in range(400))  # for a path


@pytest.mark.parametrize('classes', ['cat, dog', 'names.txt', LONG])
def test_a_clip_model_needs_only_names(call, photos, tmp_path, classes):
    (tmp_path / 'clip').mkdir()
    save_whole_model(tmp_path / 'clip')
    (tmp_path / 'names.txt').write_text('cat\ndog\n')
    result = call(main, 'clip', 'photos', '--classes', classes)
    assert result.code == 0
    assert {line.split(': ')[1][:3] for line in result.out.splitlines()} <= {
        'cat',
        'dog',
        'cla',
    }


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['nothing', 'photos'], 'There is no file or folder nothing'),
        (['photos', 'photos'], 'is not the folder of a finished run'),
        (['MODEL', 'nothing'], 'There is no file or folder nothing'),
        (['MODEL', 'photos', '--classes', 'a,b'], 'takes no classes'),
        (['MODEL', 'list.csv', '--csv=list.csv', '--force'], 'an input'),
        (['MODEL', 'photos', '--csv=x', '--html=x'], 'must be two files'),
    ],
)
def test_what_is_wrong_is_said(exit_message, model, photos, arguments, said):
    (photos.parent / 'list.csv').write_text('path\nphotos/a/0.png\n')
    words = [model if word == 'MODEL' else word for word in arguments]
    assert said in exit_message(main, *words)
