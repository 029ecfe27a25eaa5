"""Class folders that differ are named before training begins."""

import json
import shutil

import open_clip
import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.model import BaseTTAModel
from mmpretrain.datasets import CustomDataset, MultiLabelDataset
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

from mmclip.datasets import ImageFolder
from mmclip.datasets.class_order import are_same_classes, misplaced
from mmclip.datasets.shifts import imagenet_synsets
from tests.test_engine.splits import (
    check_splits,
    check_test,
    listed,
    splits_of,
    trained_on,
)


def test_equal_classes_pass(root):
    check_splits(*splits_of(root))


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_missing_folder_is_named(root, split):
    shutil.rmtree(root / split / 'b')
    other = dict(train='val', val='train')[split]
    with pytest.raises(ValueError, match=f'only in {other}: b'):
        check_splits(*splits_of(root))


@pytest.mark.parametrize('kind', [CustomDataset, ImageFolder])
def test_an_empty_folder_is_named(root, kind, log):
    (root / 'val' / 'b' / 'x.png').unlink()
    check_splits(*splits_of(root, kind))  # as in a fold of few images
    assert 'The val set has no image of b.' in log
    (root / 'train' / 'b' / 'x.png').unlink()
    with pytest.raises(ValueError, match='train set has no image of b'):
        check_splits(*splits_of(root, kind))


def test_a_head_of_another_size_is_refused(root):
    with pytest.raises(ValueError, match=r'set model\.head\.num_classes=3'):
        check_splits(*splits_of(root), num_classes=10)


def test_folders_count_where_names_are_given(root):
    (root / 'val' / 'b').rename(root / 'val' / 'd')
    with pytest.raises(ValueError, match='only in train: b; only in val: d'):
        check_splits(*splits_of(root, classes=['x', 'y', 'z']))


def test_a_test_set_of_the_classes_of_the_head_passes(root):
    check_test(CustomDataset(str(root), data_prefix='val'))


def test_a_test_set_that_lacks_a_folder_is_refused(root):
    shutil.rmtree(root / 'val' / 'b')
    dataset = CustomDataset(str(root), data_prefix='val')
    with pytest.raises(ValueError, match='test set has 2 classes') as error:
        check_test(dataset)
    assert 'num_classes' not in str(error.value)  # the head is trained


class Views(BaseTTAModel):
    """Around any model."""

    def __init__(self, model):
        torch.nn.Module.__init__(self)
        object.__setattr__(self, 'module', model)

    def merge_preds(self, data_samples_list):
        raise NotImplementedError


def test_a_test_set_is_checked_with_test_time_augmentation(root):
    dataset = CustomDataset(str(root), data_prefix='val')
    with pytest.raises(ValueError, match='but the head has 10'):
        check_test(dataset, 10, Views)


@pytest.mark.parametrize('names', [None, ['x', 'y', 'z']])
def test_a_list_of_test_images_may_leave_classes_out(root, names):
    check_test(listed(root, 0, classes=names))
    with pytest.raises(ValueError, match=r'beyond 2 \(3\).* for 1 image:'):
        check_test(listed(root, 3, classes=names))


def test_images_without_labels_pass(root):
    dataset = CustomDataset(str(root), data_prefix='val', with_label=False)
    check_test(dataset)
    check_splits(*splits_of(root, with_label=False))


def multi_label(root, *labels):
    """A data set with an image for each list of labels."""
    images = [
        dict(img_path=f'{i}.png', gt_label=label)
        for i, label in enumerate(labels)
    ]
    content = dict(metainfo=dict(classes=list('abc')), data_list=images)
    (root / 'list.json').write_text(json.dumps(content))
    return MultiLabelDataset(str(root / 'list.json'))


@pytest.mark.parametrize(
    'labels', [([0, 1], [2], []), ([0, 1], [1, 2])], ids=['ragged', 'square']
)
def test_an_image_may_have_several_labels(tmp_path, labels):
    dataset = multi_label(tmp_path, *labels)
    check_test(dataset)
    check_splits(dataset, dataset)
    with pytest.raises(ValueError, match='test set has 3 classes'):
        check_test(dataset, 4)
    with pytest.raises(ValueError, match='train set has 3 classes'):
        check_splits(dataset, dataset, 4)


def test_a_list_of_training_images_may_leave_out_what_the_other_set_has(root):
    train = listed(root, 0, 1)
    check_splits(train, CustomDataset(str(root), data_prefix='val'))
    with pytest.raises(ValueError, match='train set has 2 classes'):
        check_splits(train, train)


def test_a_negative_label_is_named(root):
    train = listed(root, 0, -1)
    with pytest.raises(ValueError, match='label -1 for 1 image;'):
        check_splits(train, train)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda dataset: RepeatDataset(dataset, 2),
        lambda dataset: ConcatDataset([dataset, dataset]),
    ],
)
def test_wrapped_sets_are_checked(root, wrap):
    train, val = splits_of(root)
    check_splits(wrap(train), val)
    with pytest.raises(ValueError, match='train set has 3 classes'):
        check_splits(wrap(train), val, 10)
    (root / 'train' / 'b' / 'x.png').unlink()
    train = CustomDataset(str(root), data_prefix='train')
    with pytest.raises(ValueError, match='train set has no image of b'):
        check_splits(wrap(train), val)


def test_classes_in_another_order_than_the_weights_are_refused(root):
    train, val = splits_of(root)
    for classes in ('abc', ('x', 'y', 'z'), ('a', 'y', 'z')):
        check_test(val, hook=trained_on(*classes))
        check_splits(train, val, hook=trained_on(*classes))
    for classes in ('cba', 'bcd'):  # turned; a renamed to d
        with pytest.raises(ValueError, match='test set and of the checkpoint'):
            check_test(val, hook=trained_on(*classes))
        with pytest.raises(ValueError, match="'b' is number 1 in"):
            check_splits(train, val, hook=trained_on(*'cdb'))


def test_labels_that_a_model_without_head_does_not_use(root):
    train = CustomDataset(str(root), data_prefix='train')
    check_splits(train, train, None, hook=trained_on(*'cba'))


def test_captions_in_another_order_than_the_data_are_refused(root):
    train, val = splits_of(root)
    check_splits(train, val, classes=['a', 'big b', 'c'])
    with pytest.raises(ValueError, match=r'train set and of model\.classes'):
        check_splits(train, val, classes=['b', 'a', 'c'])
    with pytest.raises(ValueError, match=r'set model\.classes to the 3 names'):
        check_splits(train, val, 2, classes=['a', 'b'])


def test_all_lists_of_imagenets_names_are_in_one_order():
    both = [IMAGENET_CATEGORIES, open_clip.IMAGENET_CLASSNAMES]
    assert not misplaced(*both)
    synsets = list(imagenet_synsets())  # of class folders
    assert are_same_classes(synsets, list(both[0]))
    assert not are_same_classes(synsets[::-1], list(both[0]))
    turned = [both[1][1], both[1][0], *both[1][2:]]
    assert len(misplaced(both[1], turned)) == 2
