"""A class folder that is missing is named, whatever the names of classes."""

import pytest
from PIL import Image
from timm.data import ImageNetInfo

from mmclip.datasets import ImageNet


def test_missing_classes_are_named(tmp_path):
    synsets = ImageNetInfo().label_names()
    for synset in synsets[1:]:
        (tmp_path / 'train' / synset).mkdir(parents=True)
    image = tmp_path / 'train' / synsets[1] / 'x.JPEG'
    Image.new('RGB', (4, 4)).save(image)
    with pytest.raises(FileNotFoundError, match=f'999.*Missing: {synsets[0]}'):
        ImageNet(data_root=str(tmp_path), split='train')
    (tmp_path / 'train' / synsets[0]).mkdir()
    (tmp_path / 'train' / 'extra').mkdir()
    with pytest.raises(FileNotFoundError, match='not classes: extra'):
        ImageNet(data_root=str(tmp_path), split='train')
    (tmp_path / 'train' / 'extra').rmdir()
    (tmp_path / 'train' / '.ipynb_checkpoints').mkdir()
    assert len(ImageNet(data_root=str(tmp_path), split='train')) == 1


def test_the_test_split_has_no_class_folders(tmp_path):
    (tmp_path / 'test').mkdir()
    Image.new('RGB', (4, 4)).save(tmp_path / 'test' / 'x.JPEG')
    assert len(ImageNet(data_root=str(tmp_path), split='test')) == 1
