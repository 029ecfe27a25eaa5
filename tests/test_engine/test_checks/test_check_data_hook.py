"""Files that cannot be loaded, or that two sets share, are named at once."""

import gc
import os
import shutil
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import ConcatDataset
from mmpretrain.datasets import CustomDataset, KFoldDataset
from PIL import Image

from mmclip.datasets import ImageFolder, LoadImage
from mmclip.engine import CheckDataHook
from mmclip.engine.checks import check_data_hook, duplicates
from mmclip.engine.checks.damage import find_unreadable
from mmclip.engine.checks.duplicates import find_shared

FORMATS = ('jpg', 'png', 'gif', 'webp', 'bmp', 'tiff', 'jp2', 'ppm', 'avif')


def pixels(seed):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def save(path, seed=0, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path, **settings)


@pytest.fixture
def tree(tmp_path):
    """Two splits of other images."""
    for split, first in dict(train=0, val=10).items():
        for i, name in enumerate('aabb'):
            save(tmp_path / split / name / f'{i}.png', first + i)
    return tmp_path


@pytest.fixture
def said(monkeypatch):
    """What the log says."""
    lines = []
    for module in ('mmengine.logging', check_data_hook.__name__):
        monkeypatch.setattr(
            f'{module}.print_log', lambda text, **_: lines.append(text)
        )
    return lines


def folder(tree, split, load=None, **settings):
    return ImageFolder(
        str(tree), split, pipeline=[load or LoadImage()], **settings
    )


def check(train, val=None, **settings):
    loaders = dict(train_dataloader=SimpleNamespace(dataset=train))
    if val is not None:
        loaders['val_dataloader'] = SimpleNamespace(dataset=val)
    runner = SimpleNamespace(**loaders, val_loop=None if val is None else 1)
    CheckDataHook(**settings).before_train(runner)


def test_good_sets_pass_without_a_word(tree, said):
    check(folder(tree, 'train'), folder(tree, 'val'))
    assert not said


def damage(tree):
    """One of each kind, in both splits; returns their names."""
    (tree / 'train' / 'a' / 'empty.png').touch()
    (tree / 'train' / 'a' / 'text.jpg').write_text('<html>')
    (tree / 'train' / 'b' / 'gone.png').symlink_to(tree / 'nowhere')
    save(tree / 'val' / 'b' / 'cut.jpg')
    os.truncate(tree / 'val' / 'b' / 'cut.jpg', 800)
    return 'empty.png', 'text.jpg', 'gone.png', 'cut.jpg'


def test_all_that_cannot_be_loaded_is_named_at_once(tree):
    names = damage(tree)
    with pytest.raises(
        ValueError, match='3 of the 7 images of the t'
    ) as error:
        check(folder(tree, 'train'), folder(tree, 'val'))
    assert '1 of the 5 images of the val set' in str(error.value)
    assert all(f'/{name}' in str(error.value) for name in names)


def test_files_that_cannot_be_opened_are_like_no_others(tree, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(path)

    monkeypatch.setattr(duplicates, 'open', refuse, raising=False)
    first, second = (
        [str(tree / split / 'a' / '0.png')] for split in ('train', 'val')
    )
    shutil.copy(first[0], second[0])
    assert find_shared(first, second) == {}


def test_no_later_set_can_be_taken_for_one_that_was_checked(tree):
    hook, dataset = CheckDataHook(), folder(tree, 'val')
    loader = SimpleNamespace(dataset=dataset)
    hook.before_test(SimpleNamespace(test_dataloader=loader))
    checked = weakref.ref(dataset)
    del dataset, loader
    gc.collect()
    assert checked() is not None  # else another may have its id


class InMemory(CustomDataset):
    """Images that are no files of their own, as of mmpretrain's CIFAR10."""

    def __init__(self, **settings):
        super().__init__(data_prefix=dict(root='somewhere'), **settings)

    def load_data_list(self):
        return [dict(img=pixels(0), gt_label=i % 2) for i in range(4)]


def test_sets_without_files_pass(said):
    check(InMemory(), InMemory(test_mode=True), max_images=3)
    assert [line.count('not looked for') for line in said] == [1, 1]


@pytest.mark.parametrize('split', ['val', 'test'])
def test_a_set_alone_is_checked(tree, split):
    damage(tree)
    loader = SimpleNamespace(dataset=folder(tree, 'val'))
    runner = SimpleNamespace(**{f'{split}_dataloader': loader})
    with pytest.raises(ValueError, match=rf'{split} set [^/]*/.*/cut\.jpg'):
        getattr(CheckDataHook(), f'before_{split}')(runner)


def test_validation_is_checked_once(tree):
    train, val = folder(tree, 'train'), folder(tree, 'val')
    loaders = [SimpleNamespace(dataset=data) for data in (train, val)]
    runner = SimpleNamespace(
        train_dataloader=loaders[0], val_dataloader=loaders[1], val_loop=1
    )
    hook = CheckDataHook()
    hook.before_train(runner)
    damage(tree)
    hook.before_val(runner)  # of each epoch


def test_what_is_to_be_skipped_is_named_too(tree, said):
    damage(tree)
    skip = LoadImage('skip', max_errors=3)
    check(folder(tree, 'train', skip))
    assert '3 of the 7 images' in said[0]
    assert 'They will be skipped' in said[0]
    with pytest.raises(ValueError, match='3 of the 7 images'):
        check(folder(tree, 'train', LoadImage('skip', max_errors=2)))


def test_of_other_loaders_only_missing_and_empty_files_are_named(tree):
    damage(tree)
    with pytest.raises(ValueError, match='2 of the 7 images'):
        check(folder(tree, 'train', LoadImageFromFile()))


def test_large_sets_are_left_out_and_the_log_says_so(tree, said):
    damage(tree)
    check(folder(tree, 'train'), max_images=6)
    assert '7 images, more than 6' in said[0]


@pytest.mark.parametrize('suffix', FORMATS)
def test_a_cut_at_any_place_is_found(tmp_path, suffix):
    """And nothing is made up: what loads passes, with bytes after it."""
    path = tmp_path / f'x.{suffix}'
    save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(100))
    assert not find_unreadable([str(path)])
    for share in (0.05, 0.3, 0.6, 0.97):
        path.write_bytes(whole[: int(share * len(whole))])
        assert find_unreadable([str(path)]), share


def test_pixels_that_do_not_load_are_found(tmp_path):
    path = tmp_path / 'x.tiff'
    Image.fromarray(pixels(0)[..., 0].astype(np.float32)).save(path)
    (error,) = find_unreadable([str(path)])
    assert 'no largest value' in str(error)


def test_a_png_without_its_end_loads_and_passes(tmp_path):
    save(tmp_path / 'x.png')
    os.truncate(tmp_path / 'x.png', (tmp_path / 'x.png').stat().st_size - 12)
    assert not find_unreadable([str(tmp_path / 'x.png')])


SHARE = {
    'folder': lambda tree: (shutil.rmtree(tree / 'val'), 'train'),
    'copy': lambda tree: (
        shutil.copy(tree / 'train/a/0.png', tree / 'val/b/copy.png'),
        'val',
    ),
    'link': lambda tree: (
        (tree / 'val/b/link.png').symlink_to(tree / 'train/a/0.png'),
        'val',
    ),
    'hard link': lambda tree: (
        os.link(tree / 'train/a/0.png', tree / 'val/b/hard.png'),
        'val',
    ),
    'linked folder': lambda tree: (
        (tree / 'other').symlink_to(tree / 'train'),
        'other',
    ),
}


@pytest.mark.parametrize('how', SHARE)
def test_images_in_both_sets_are_named(tree, said, how):
    _, val = SHARE[how](tree)
    check(folder(tree, 'train'), folder(tree, val))
    (line,) = said
    number = '4 of its 4' if 'folder' in how else '1 of its 5'
    assert f'shares {number} images' in line
    assert '/a/0.png' in line


def test_files_of_one_size_are_compared_by_all_of_their_content(tmp_path):
    contents = dict(one=bytes(9000), other=bytes(8999) + b'x')
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    shutil.copy(tmp_path / 'other', tmp_path / 'copy')
    first, second = str(tmp_path / 'one'), str(tmp_path / 'other')
    assert not find_shared([first], [second])
    copy = str(tmp_path / 'copy')
    assert find_shared([first, second], [copy]) == {copy: second}


def test_not_more_is_read_than_a_limit(tmp_path, monkeypatch, said):
    monkeypatch.setattr(duplicates, 'MAX_BYTES', 10_000)
    for name in 'ab':
        (tmp_path / name).write_bytes(bytes(9000))
    assert not find_shared([str(tmp_path / 'a')], [str(tmp_path / 'b')])
    assert '2 files' in said[0]


def test_large_sets_in_one_folder_are_named(tree, said):
    train, val = folder(tree, 'train'), folder(tree, 'val')
    check(train, val, max_images=3)
    assert len(said) == 2  # that they are large
    check(train, folder(tree, 'train/../train'), max_images=3)
    assert 'accuracy on training images' in said[-1]


def test_parts_of_one_folder_are_other_images(tree, said):
    folds = [
        KFoldDataset(
            dict(
                type='mmclip.ImageFolder',
                data_root=str(tree),
                data_prefix='train',
            ),
            num_splits=2,
            test_mode=test_mode,
        )
        for test_mode in (False, True)
    ]
    check(*folds)
    check(*folds, max_images=1)
    assert not [line for line in said if 'measured' in line]


def test_sets_inside_others_are_compared(tree, said):
    both = ConcatDataset([folder(tree, 'train'), folder(tree, 'val')])
    check(both, folder(tree, 'val'))
    assert '4 of its 4 images' in said[-1]
