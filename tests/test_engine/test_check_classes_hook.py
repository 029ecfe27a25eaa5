"""Class folders that differ are named before training begins."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from PIL import Image

from mmclip.engine import CheckClassesHook


@pytest.fixture
def root(tmp_path):
    """Two splits of three classes."""
    for split in ('train', 'val'):
        for name in 'abc':
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            pixels = np.zeros((4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / 'x.png')
    return tmp_path


def check(root, num_classes=3, **dataset):
    train, val = (
        SimpleNamespace(
            dataset=CustomDataset(str(root), data_prefix=split, **dataset)
        )
        for split in ('train', 'val')
    )
    head = SimpleNamespace(num_classes=num_classes)
    CheckClassesHook().before_train(
        SimpleNamespace(
            train_dataloader=train,
            val_dataloader=val,
            val_loop=True,
            model=SimpleNamespace(head=head),
        )
    )


def test_equal_classes_pass(root):
    check(root)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_missing_folder_is_named(root, split):
    shutil.rmtree(root / split / 'b')
    other = dict(train='val', val='train')[split]
    with pytest.raises(ValueError, match=f'only in {other}: b'):
        check(root)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_an_empty_folder_is_named(root, split):
    (root / split / 'b' / 'x.png').unlink()
    with pytest.raises(ValueError, match=f'{split} set has no image of b'):
        check(root)


def test_a_head_of_another_size_is_refused(root):
    with pytest.raises(ValueError, match=r'set model\.head\.num_classes=3'):
        check(root, num_classes=10)


def test_folders_count_where_names_are_given(root):
    (root / 'val' / 'b').rename(root / 'val' / 'd')
    with pytest.raises(ValueError, match='only in train: b; only in val: d'):
        check(root, classes=['x', 'y', 'z'])
