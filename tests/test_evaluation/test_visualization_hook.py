"""Each prediction has a picture of its own."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.visualization import Visualizer
from mmpretrain.datasets import CustomDataset
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer
from PIL import Image

from mmclip.evaluation import VisualizationHook
from tests.conftest import REPOSITORY


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Where pictures go, and nothing is drawn in a window."""
    visualizer = UniversalVisualizer(name=tmp_path.name)
    monkeypatch.setattr(Visualizer, 'get_current_instance', lambda: visualizer)
    return tmp_path / 'pictures'


@pytest.fixture
def root(tmp_path):
    """The same names in three class folders, and one alike but its suffix."""
    for name in 'abc':
        for file in ('0.png', '1.png', '1.jpg'):
            path = tmp_path / 'val' / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    return tmp_path


def draw(dataset, out, epochs=1, split='test', **settings):
    """Show a data set to the hook in batches of four."""
    hook = VisualizationHook(
        enable=True, out_dir=out and str(out), **{'interval': 1} | settings
    )
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=dataset),
        val_dataloader=SimpleNamespace(dataset=dataset),
        train_loop=None,
        iter=0,
    )
    for epoch in range(epochs):
        runner.iter = epoch
        getattr(hook, f'before_{split}_epoch')(runner)
        for batch, first in enumerate(range(0, len(dataset), 4)):
            rows = range(first, min(first + 4, len(dataset)))
            samples = [
                DataSample(
                    metainfo=dict(
                        img_path=dataset.get_data_info(i)['img_path']
                    )
                ).set_pred_label(0)
                for i in rows
            ]
            inputs = torch.zeros(len(samples), 3, 8, 8)
            after = getattr(hook, f'after_{split}_iter')
            after(runner, batch, dict(inputs=inputs), samples)


def found(out):
    return sorted(path.name for path in out.iterdir())


def test_every_image_has_a_picture(root, pictures):
    draw(CustomDataset(str(root), data_prefix='val'), pictures)
    assert found(pictures) == [
        f'{name}__{file}_0.png'
        for name in 'abc'
        for file in ('0.png', '1.jpg', '1.png')
    ]


def test_every_epoch_has_its_own(root, pictures):
    dataset = CustomDataset(str(root), data_prefix='val')
    draw(dataset, pictures, epochs=2, split='val')
    assert len(found(pictures)) == 18


def test_every_fourth_is_every_fourth(root, pictures):
    draw(CustomDataset(str(root), data_prefix='val'), pictures, interval=4)
    names = ['a__0.png_0.png', 'b__1.jpg_0.png', 'c__1.png_0.png']
    assert found(pictures) == names


def test_sets_beside_one_another_keep_their_folders(root, pictures):
    os.rename(root / 'val', root / 'one')
    os.symlink(root / 'one', root / 'other')
    sets = [CustomDataset(str(root), data_prefix=x) for x in ('one', 'other')]
    draw(ConcatDataset(sets), pictures)
    assert len(found(pictures)) == 18
    assert 'other__a__0.png_0.png' in found(pictures)


def test_an_image_that_stands_in_a_list_twice_has_two(root, pictures):
    (root / 'list.txt').write_text('a/0.png 0\na/0.png 1\n')
    dataset = CustomDataset(str(root), data_prefix='val', ann_file='list.txt')
    draw(dataset, pictures)
    assert found(pictures) == ['a__0.png_0.png', 'a__0.png_1_0.png']


def test_images_without_files_are_named_by_their_number(root, pictures):
    class InMemory(CustomDataset):
        """As mmpretrain's CIFAR10."""

        def load_data_list(self):
            return [dict(gt_label=0, img_path=None)] * 3

    dataset = InMemory(data_prefix=dict(root=str(root)))
    draw(dataset, pictures)
    assert found(pictures) == ['0_0.png', '1_0.png', '2_0.png']


def test_a_visualizer_gets_other_names_too(root, pictures, monkeypatch):
    names = []
    monkeypatch.setattr(
        UniversalVisualizer,
        'add_image',
        lambda self, name, image, step: names.append(name),
    )
    draw(CustomDataset(str(root), data_prefix='val'), None)
    assert len(set(names)) == 9
    assert 'a__0.png' in names


def test_mmpretrains_own_tool_uses_it():
    """It sets enable and out_dir in what a config has."""
    base = REPOSITORY / 'configs' / '_base_' / 'default_runtime.py'
    hook = Config.fromfile(base).default_hooks.visualization
    assert hook == dict(type='mmclip.VisualizationHook', enable=False)


def test_names_that_become_the_same_are_told_apart(tmp_path, pictures):
    lines = [f'{name} 0\n' for name in ('a__b/c.png', 'a/b__c.png')]
    (tmp_path / 'list.txt').write_text(''.join(lines))
    dataset = CustomDataset(str(tmp_path), ann_file='list.txt')
    draw(dataset, pictures)
    assert len(found(pictures)) == 2
