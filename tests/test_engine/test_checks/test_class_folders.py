"""What lies in class folders and lists is named as what it is."""

from types import SimpleNamespace

import pytest
from mmcv.transforms import LoadImageFromFile
from mmpretrain.datasets import CustomDataset, KFoldDataset

from mmclip.datasets import ImageFolder
from mmclip.engine import CheckClassesHook
from mmclip.engine.checks import first_process, folders, labels
from tests.test_engine.splits import (
    check_splits,
    check_test,
    listed,
    picture,
    splits_of,
    trained_on,
)


@pytest.fixture
def said(monkeypatch):
    """What the log says."""
    lines = []
    for module in ('mmengine.logging', folders.__name__, labels.__name__):
        monkeypatch.setattr(
            f'{module}.print_log', lambda text, **_: lines.append(text)
        )
    return lines


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize(
    'name', ['a/x.webp', 'b/y.tiff', 'c/Z.JPE', 'c/deeper/x.gif', 'stray.png']
)
def test_images_that_mmpretrain_leaves_out_are_named(root, split, name):
    picture(root / split / name)
    with pytest.raises(ValueError, match=rf'{split} set .*: {name}.*ImageFol'):
        check_splits(*splits_of(root))


def test_images_without_labels_are_not_left_out_either(root):
    picture(root / 'train' / 'a' / 'x.webp')
    with pytest.raises(ValueError, match=r'train set .*: a/x\.webp'):
        check_splits(*splits_of(root, with_label=False))


def test_images_that_a_test_leaves_out_are_named(root):
    picture(root / 'val' / 'a' / 'x.webp')
    with pytest.raises(ValueError, match=r'test set .*: a/x\.webp'):
        check_test(CustomDataset(str(root), data_prefix='val'))


def test_files_that_nobody_can_read_are_counted(root, said):
    (root / 'train' / 'a' / 'x.heic').write_bytes(b'....ftypheic')
    check_splits(*splits_of(root))
    assert '1 file that cannot be read as an image (1 .heic)' in said[0]


def test_images_may_be_left_out_on_purpose(root):
    picture(root / 'train' / 'a' / 'x.webp')
    picture(root / 'train' / 'stray.png')
    check_splits(*splits_of(root, extensions=['.png']))


def test_a_loader_that_may_not_read_them_is_warned(root, said):
    picture(root / 'train' / 'a' / 'x.webp')
    picture(root / 'train' / 'stray.png')
    check_splits(*splits_of(root, pipeline=[LoadImageFromFile()]))
    assert 'stray.png, a/x.webp' in said[0]


@pytest.mark.parametrize('place', ['', 'a'])
def test_a_hidden_folder_is_named(root, place):
    picture(root / 'train' / place / '@eaDir' / 'x.png')
    with pytest.raises(ValueError, match=r'not part of .*@eaDir') as said:
        check_splits(*splits_of(root))
    assert 'num_classes' not in str(said.value)
    check_splits(*splits_of(root, ImageFolder))


def test_hidden_files_are_nobodys_matter(root):
    picture(root / 'train' / 'a' / '._x.png')
    (root / 'train' / 'a' / 'Thumbs.db').touch()
    (root / 'train' / '.cache').touch()
    check_splits(*splits_of(root))


@pytest.mark.parametrize('names', ['bac', 'Bac', ('b', 'x', 'a')])
def test_names_in_another_order_than_the_folders_are_refused(root, names):
    names = dict(metainfo=dict(classes=list(names)))
    with pytest.raises(ValueError, match='order of the folders: a, b, c'):
        check_splits(*splits_of(root, **names))
    with pytest.raises(ValueError, match='order of the folders: a, b, c'):
        check_test(CustomDataset(str(root), data_prefix='val', **names))


def test_folders_are_compared_with_weights_and_captions(root):
    """Where other names are given, the folders still say which is which."""
    names = dict(metainfo=dict(classes=['x', 'y', 'z']))
    train, val = splits_of(root, **names)
    for classes in ('bac', 'BAc'):
        with pytest.raises(ValueError, match='of the checkpoint are numbered'):
            check_test(val, hook=trained_on(*classes))
        with pytest.raises(
            ValueError, match=r'of model\.classes are numbered'
        ):
            check_splits(train, val, classes=list(classes))


@pytest.mark.parametrize('names', [None, ['x', 'y', 'z']])
def test_labels_that_begin_at_one_are_named_as_such(root, names):
    dataset = listed(root, 1, 2, 3, classes=names)
    for check in (check_test, lambda data: check_splits(data, data)):
        with pytest.raises(
            ValueError, match=r'subtract 1 .*list\.txt'
        ) as said:
            check(dataset)
        assert 'num_classes' not in str(said.value)
        assert 'stays 3' in str(said.value)


def test_who_made_the_head_larger_for_them_is_warned(root, said):
    from_one = listed(root, 1, 2, 3)
    from_zero = listed(root, 0, 1, 2, name='0')
    check_splits(from_zero, from_zero)
    assert not said
    check_splits(from_one, from_one, num_classes=4)
    assert 'subtract 1' in said[0]


def test_a_stray_label_is_not_taken_for_a_number_of_classes(root):
    for names in (None, ['x', 'y', 'z']):
        dataset = listed(root, 0, 1, 2, 99, classes=names)
        with pytest.raises(ValueError, match=r'beyond 2 \(99\)') as said:
            check_splits(dataset, dataset)
        assert 'num_classes' not in str(said.value)


def test_names_in_another_order_than_a_list_are_refused(root):
    for names, other in (('abc', 'bac'), (['A', 'x', 'c'], ['c', 'x', 'A'])):
        dataset = listed(root, 0, 1, 2, classes=list(names))
        check_splits(dataset, dataset)
        dataset = listed(root, 0, 1, 2, classes=list(other))
        with pytest.raises(ValueError, match=r'labels of .*txt: .* label 0'):
            check_splits(dataset, dataset)
    # A list may give a folder any labels.
    dataset = listed(root, 0, 1, 2, 1, 2, 0, classes=list('bac'))
    check_splits(dataset, dataset)


def folds(root, seed):
    """Three folds of six images; the second is validated on."""
    for name in 'abc':
        picture(root / 'train' / name / 'y.png')
    return (
        KFoldDataset(
            dict(
                type='CustomDataset',
                data_root=str(root),
                data_prefix='train',
                _scope_='mmpretrain',
            ),
            fold=1,
            num_splits=3,
            seed=seed,
            test_mode=test_mode,
        )
        for test_mode in (False, True)
    )


def test_a_fold_may_lack_a_class(root):
    train, val = folds(root, seed=1)
    assert len(set(val.get_gt_labels())) < 3
    check_splits(train, val)
    check_test(val)


def test_folds_of_whole_classes_are_refused(root):
    train, val = folds(root, seed=None)
    with pytest.raises(
        ValueError, match='a fold of whole classes: set the seed'
    ):
        check_splits(train, val)


def test_no_image_is_asked_for_its_label(root, monkeypatch):
    listed(root, 0, 1, 2)
    listed(root, 0, 1, 3, name='stray.txt')
    for kind in (CustomDataset, ImageFolder):
        for name in 'get_cat_ids', 'get_gt_labels':
            monkeypatch.setattr(kind, name, None)
        check_splits(*splits_of(root, kind))
        check_splits(*splits_of(root, kind, ann_file='list.txt'))
        with pytest.raises(ValueError, match=r'\(3\), the last of 3'):
            check_splits(*splits_of(root, kind, ann_file='stray.txt'))


def test_a_validation_alone_is_checked(root):
    picture(root / 'val' / 'a' / 'x.webp')
    dataset = CustomDataset(str(root), data_prefix='val')
    runner = SimpleNamespace(
        val_dataloader=SimpleNamespace(dataset=dataset),
        val_evaluator=SimpleNamespace(metrics=[]),
        model=SimpleNamespace(head=SimpleNamespace(num_classes=3)),
    )
    with pytest.raises(ValueError, match='val set'):
        CheckClassesHook().before_val(runner)


def test_all_processes_stop_where_the_first_finds_something(monkeypatch):
    def receive(objects):
        objects[0] = 'what the first process found'

    monkeypatch.setattr(first_process, 'is_main_process', lambda: False)
    monkeypatch.setattr(first_process, 'broadcast_object_list', receive)
    with pytest.raises(ValueError, match='what the first process found'):
        first_process.check_once(lambda: pytest.fail('checked twice'))
