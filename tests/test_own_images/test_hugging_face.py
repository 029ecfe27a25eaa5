"""Data sets of Hugging Face are read from disk."""

import json
import sys
from types import ModuleType

import pytest

from mmclip.errors import ArgumentError, DataError, RequirementError
from mmclip.own_images.read import read_images
from tests.test_own_images.conftest import save_all


def labels_of(images):
    return {
        path: (images.classes[labels[0]], split)
        for path, labels, split in zip(
            images.paths, images.labels, images.splits, strict=True
        )
    }


FOLDER = {
    'train/1.png': ('cat', 'train'),
    'train/2.png': ('dog', 'train'),
    'test/1.png': ('cat', 'test'),
    'val/1.png': ('dog', 'val'),
}


def metadata(path, names):
    if path.endswith('.jsonl'):
        lines = [
            json.dumps(dict(file_name=n, label=label, text='a, b'))
            for n, label in names.items()
        ]
    elif path.startswith('_'):
        lines = ['filename, cat, dog']
        lines += [
            f'{n}, {int(x == "cat")}, {int(x == "dog")}'
            for n, x in names.items()
        ]
    else:
        lines = ['file_name,label', *(f'{n},{x}' for n, x in names.items())]
    return '\n'.join(lines)


@pytest.mark.parametrize(
    'name', ['metadata.csv', 'metadata.jsonl', '_classes.csv']
)
@pytest.mark.parametrize('beside', [True, False])
def test_the_metadata_of_an_imagefolder_has_the_labels(tmp_path, name, beside):
    save_all(tmp_path, *FOLDER)
    for place in [''] if beside else ['train/', 'test/', 'val/']:
        found = {
            path.removeprefix(place): label
            for path, (label, _) in FOLDER.items()
            if path.startswith(place)
        }
        (tmp_path / place / name).write_text(metadata(name, found))
    assert labels_of(read_images(tmp_path)) == FOLDER


def test_metadata_without_labels_leaves_them_to_the_folders(tmp_path):
    save_all(tmp_path, 'cat/1.png', 'cat/2.png', 'dog/1.png', 'dog/2.png')
    (tmp_path / 'metadata.csv').write_text('file_name,text\ncat/1.png,a cat\n')
    assert read_images(tmp_path).classes == ('cat', 'dog')


@pytest.mark.parametrize(
    'table, rows, message',
    [
        ('train/metadata.csv', '1.png,cat\n2.png,dog', r'val has no table'),
        ('metadata.csv', 'train/1.png,cat\n0.png,dog', 'in no split.*0.png'),
        ('metadata.csv', '0.png,cat\n9.png,dog', 'do not exist: 9.png'),
    ],
)
def test_metadata_that_leaves_images_out_is_refused(
    tmp_path, table, rows, message
):
    save_all(tmp_path, 'train/1.png', 'train/2.png', 'val/1.png', '0.png')
    (tmp_path / table).write_text(f'file_name,label\n{rows}\n')
    with pytest.raises(DataError, match=message):
        read_images(tmp_path)


class Image:
    """As in the package datasets: a feature of that type."""

    def __init__(self, decode=True):
        pass


class ClassLabel:
    names = ('cat', 'dog')


class Sequence:
    feature = ClassLabel()


class Saved(list):
    """As in the package datasets: a list of rows with types."""

    features: dict

    def select_columns(self, columns):
        return self

    def cast_column(self, name, feature):
        return self


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Stand in for what the package datasets reads from a folder."""

    def write(parts, label):
        (tmp_path / 'state.json').touch()
        module = ModuleType('datasets')
        found = {}
        for split, labels in parts.items():
            name = f'{split}.png'
            content = (save_all(tmp_path, name) / name).read_bytes()
            images = [dict(bytes=content, path=None) for _ in labels]
            found[split] = Saved(
                dict(image=image, label=value)
                for image, value in zip(images, labels, strict=True)
            )
            found[split].features = dict(image=Image(), label=label)
        module.load_from_disk = lambda folder: found
        module.Image = Image
        monkeypatch.setitem(sys.modules, 'datasets', module)
        return tmp_path

    return write


def test_images_inside_a_data_set_are_written_once(saved, tmp_path):
    source = saved(dict(train=[0, 1], validation=[1]), ClassLabel())
    keep = tmp_path / 'run' / 'images'
    images = read_images(source, keep=keep)
    assert labels_of(images) == {
        'train/0000000.png': ('cat', 'train'),
        'train/0000001.png': ('dog', 'train'),
        'val/0000000.png': ('dog', 'val'),
    }
    first, second = sorted(keep.glob('train/*'))
    before, whole = second.stat().st_mtime_ns, first.read_bytes()
    first.write_bytes(whole[:9])  # an earlier run was stopped
    assert read_images(source, keep=keep) == images
    assert first.read_bytes() == whole
    assert second.stat().st_mtime_ns == before


def test_a_data_set_may_have_several_labels(saved, tmp_path):
    source = saved(dict(train=[[0, 1], [], [0]]), Sequence())
    images = read_images(source, keep=tmp_path / 'images')
    assert images.labels == ((0, 1), (), (0,))


def test_a_data_set_without_labels_is_refused(saved, tmp_path):
    source = saved(dict(train=[0, 1, -1]), ClassLabel())
    with pytest.raises(DataError, match='1 images without a label'):
        read_images(source, keep=tmp_path / 'images')


def test_a_data_set_needs_a_folder_to_write_into(saved):
    with pytest.raises(ArgumentError, match='a folder to write images into'):
        read_images(saved(dict(train=[0, 1]), ClassLabel()))


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'datasets', None)
    (tmp_path / 'dataset_dict.json').touch()
    with pytest.raises(RequirementError, match='pip install datasets'):
        read_images(tmp_path, keep=tmp_path)
