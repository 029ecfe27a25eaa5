"""ImageNet's distribution shifts in their published layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
from PIL import Image
from timm.data import ImageNetInfo

from mmclip.datasets import (
    ImageNetA,
    ImageNetR,
    ImageNetSketch,
    ImageNetV2,
    ImageNetVal,
    ObjectNet,
)
from tests.shift_trees import write_images, write_objectnet

LOAD = dict(type='LoadImageFromFile')


def label_of_folder(dataset) -> dict[str, int]:
    """Label of the images in each folder."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return {
        Path(info['img_path']).parent.name: info['gt_label'] for info in infos
    }


@pytest.mark.parametrize(
    ('cls', 'names', 'own'),
    [
        (ImageNetVal, ['n01440764/a.JPEG', 'n15075141/b.JPEG'], None),
        (ImageNetSketch, ['n02123045/sketch_0.JPEG'], None),
        (ImageNetR, ['n01443537/art_0.jpg', 'n12267677/toy_1.jpg'], 200),
        (ImageNetA, ['n01498041/0.003_fox.jpg', 'n02007558/x.jpg'], 200),
    ],
)
def test_synset_folders_have_the_labels_of_timm(tmp_path, cls, names, own):
    dataset = cls(str(write_images(tmp_path / 'set', *names)))
    synsets = ImageNetInfo().label_names()
    labels = label_of_folder(dataset)
    assert labels == {synset: synsets.index(synset) for synset in labels}
    assert len(dataset) == len(labels) == len(names)
    groups = dataset.metainfo['own_classes']
    assert (groups and len(groups)) == own


@pytest.mark.parametrize('cls', [ImageNetR, ImageNetA])
def test_own_classes_are_the_ones_of_timms_evaluation(tmp_path, cls):
    from importlib import resources

    letter = cls.__name__[-1].lower()
    info = resources.files('timm.data') / '_info'
    indices = (info / f'imagenet_{letter}_indices.txt').read_text().split()
    dataset = cls(str(tmp_path), lazy_init=True)
    own = [index for (index,) in dataset.metainfo['own_classes']]
    assert own == [int(index) for index in indices]


def test_metainfo_has_the_thousand_classes(tmp_path):
    dataset = ImageNetA(str(tmp_path), lazy_init=True)
    assert dataset.metainfo['classes'] == IMAGENET_CATEGORIES


def test_folders_of_v2_are_numbers_not_strings(tmp_path):
    numbers = ['0', '1', '2', '10', '100', '999']
    root = write_images(tmp_path, *(f'{n}/{n}.jpeg' for n in numbers))
    dataset = ImageNetV2(str(root))
    assert label_of_folder(dataset) == {n: int(n) for n in numbers}


def test_objects_are_labelled_by_the_published_mappings(tmp_path):
    dataset = ObjectNet(str(write_objectnet(tmp_path)))
    names = {
        folder: IMAGENET_CATEGORIES[label]
        for folder, label in label_of_folder(dataset).items()
    }
    assert names == {
        'alarm_clock': 'analog clock',
        'banana': 'banana',
        'bench': 'park bench',
        'chair': 'barber chair',
        'lemon': 'lemon',
        'mug': 'coffee mug',
    }
    groups = dataset.metainfo['own_classes']
    named = [[IMAGENET_CATEGORIES[i] for i in group] for group in groups]
    assert ['analog clock', 'digital clock'] in named
    assert ['barber chair', 'folding chair', 'rocking chair, rocker'] in named


def test_the_border_of_objectnet_is_cut_off(tmp_path):
    root = write_objectnet(tmp_path)
    path = root / 'banana' / '0.png'
    Image.fromarray(bordered()).save(path)
    dataset = ObjectNet(str(root), [LOAD])
    index = list(label_of_folder(dataset)).index('banana')
    image = dataset[index]['img']
    assert image.shape == (32, 36, 3)
    assert dataset[index]['img_shape'] == (32, 36)
    assert (image == 127).all()


def test_a_pipeline_that_does_not_load_is_refused(tmp_path):
    root = write_objectnet(tmp_path)
    with pytest.raises(ValueError, match=r'named Load.*: Resize'):
        ObjectNet(str(root), [dict(type='Resize', scale=8)])


def test_missing_mappings_are_named(tmp_path):
    root = write_objectnet(tmp_path)
    missing = tmp_path / 'mappings' / 'objectnet_to_imagenet_1k.json'
    missing.unlink()
    with pytest.raises(FileNotFoundError, match=str(missing)):
        ObjectNet(str(root))


def test_mappings_elsewhere(tmp_path):
    root = write_objectnet(tmp_path / 'objectnet')
    mappings = (tmp_path / 'objectnet' / 'mappings').rename(tmp_path / 'm')
    assert len(ObjectNet(str(root), mappings=str(mappings))) == 6


def test_an_unknown_class_in_the_mappings_is_named(tmp_path):
    root = write_objectnet(tmp_path)
    path = tmp_path / 'mappings' / 'objectnet_to_imagenet_1k.json'
    path.write_text(json.dumps({'Banana': 'plantain'}))
    with pytest.raises(ValueError, match="'plantain' is not the name"):
        ObjectNet(str(root))


def test_a_missing_folder_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no folder in.*999/\*.jpeg'):
        ImageNetV2(str(tmp_path / 'nothing'))


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / 'n01443537').mkdir()
    with pytest.raises(FileNotFoundError, match='no image in'):
        ImageNetR(str(tmp_path))


@pytest.mark.parametrize(
    ('cls', 'folder'),
    [
        (ImageNetR, 'n01440764'),  # of ImageNet, not of R
        (ImageNetA, 'tench'),
        (ImageNetV2, '1000'),
        (ImageNetSketch, 'n99999999'),
    ],
)
def test_a_folder_of_another_set_is_refused(tmp_path, cls, folder):
    write_images(tmp_path, f'{folder}/0.jpg')
    with pytest.raises(ValueError, match=f'{folder} in .* not a class folder'):
        cls(str(tmp_path))


def test_missing_classes_are_warned_of_and_shift_no_label(tmp_path, log):
    write_images(tmp_path, 'n02123045/a.jpg')
    dataset = ImageNetVal(str(tmp_path))
    assert label_of_folder(dataset) == {'n02123045': 281}
    assert 'no image of 999 of its 1000 classes' in log[-1]


def bordered() -> np.ndarray:
    """A grey image (36, 40, 3) with a red border of two pixels."""
    pixels = np.zeros((36, 40, 3), np.uint8)
    pixels[..., 0] = 255
    pixels[2:-2, 2:-2] = 127
    return pixels
