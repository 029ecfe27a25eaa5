"""Evaluation never leaves out an image."""

import os
import shutil

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image

from mmclip.engine.checks.check_data_hook import CheckDataHook
from mmclip.engine.checks.every_test_image_hook import EveryTestImageHook
from mmclip.errors import DataError


@pytest.fixture
def root(tmp_path):
    """Two splits of two images, one of them truncated."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for split in ('train', 'val'):
        folder = tmp_path / split / 'class'
        folder.mkdir(parents=True)
        for name in ('good.png', 'bad.png'):
            Image.fromarray(pixels).save(folder / name)
        os.truncate(folder / 'bad.png', 100)
    return tmp_path


class Silent(BaseModel):
    """Predicts nothing."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, data_samples, mode='tensor'):
        return data_samples


class Names(BaseMetric):
    """Which images were tested on."""

    def process(self, data_batch, data_samples):
        self.results += [sample['img_path'] for sample in data_samples]

    def compute_metrics(self, results):
        return dict(names=[os.path.basename(path) for path in results])


def make_runner(root, pipeline, hooks, wrap=lambda dataset: dataset):
    dataset = dict(
        type='CustomDataset', data_root=str(root), pipeline=pipeline
    )
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=wrap(dataset | dict(data_prefix='val')),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    return Runner(
        Silent(),
        work_dir=str(root / 'work'),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=[Names()],
        test_dataloader=loader,
        test_cfg=dict(),
        test_evaluator=[Names()],
        custom_hooks=hooks,
        default_scope='mmpretrain',
        experiment_name=root.name,
    )


def plain(**settings):
    return [dict(type='mmclip.LoadImage', **settings), dict(type='PackInputs')]


def of_mmcv(ignore_empty):
    load = dict(type='LoadImageFromFile', ignore_empty=ignore_empty)
    return [load, dict(type='PackInputs')]


def twice(dataset):
    return dict(type='ConcatDataset', datasets=[dataset, dataset])


def a_fold(dataset):
    """The first of two images, bad.png: those to train on in this fold."""
    return dict(type='KFoldDataset', dataset=dataset, fold=1, num_splits=2)


def empty(root):
    (root / 'val' / 'class' / 'bad.png').write_bytes(b'')


skipping = pytest.mark.parametrize(
    'skipping', [plain(on_error='skip'), of_mmcv(ignore_empty=True)]
)


@skipping
@pytest.mark.parametrize('run', ['val', 'test'])
def test_an_evaluation_that_leaves_out_an_image_stops(root, skipping, run):
    empty(root)
    runner = make_runner(root, skipping, [EveryTestImageHook()])
    with pytest.raises(Exception, match=r'Test time .* not get `None`'):
        getattr(runner, run)()


@skipping
@pytest.mark.parametrize('wrap', [twice, a_fold])
def test_wrapped_sets_stop_too(root, skipping, wrap):
    empty(root)
    runner = make_runner(root, skipping, [EveryTestImageHook()], wrap)
    with pytest.raises(Exception, match=r'Test time .* not get `None`'):
        runner.test()


def test_a_fold_stays_what_it_is(root):
    good = root / 'val' / 'class' / 'good.png'
    shutil.copy(good, root / 'val' / 'class' / 'bad.png')
    runner = make_runner(root, plain(), [EveryTestImageHook()], a_fold)
    assert runner.test() == dict(names=['bad.png'])


@skipping
def test_an_evaluation_that_could_skip_passes_if_it_need_not(root, skipping):
    (root / 'val' / 'class' / 'bad.png').unlink()
    runner = make_runner(root, skipping, [EveryTestImageHook()])
    assert runner.test() == dict(names=['good.png'])


@skipping
def test_without_the_hook_another_image_is_tested_twice(root, skipping):
    empty(root)
    runner = make_runner(root, skipping, [])
    assert runner.test() == dict(names=['good.png', 'good.png'])


def test_the_images_are_named_before_the_first_step(root):
    """By CheckDataHook, where there are not too many."""
    runner = make_runner(root, plain(on_error='skip'), [CheckDataHook()])
    with pytest.raises(
        DataError, match=r'1 of the 2 .* val set(.|\n)*bad\.png'
    ):
        runner.train()
    assert runner.iter == 0
