"""Evaluation never leaves out an image."""

import os

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image

from mmclip.engine.checks.every_test_image_hook import EveryTestImageHook


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


def two_views(**settings):
    load, pack = plain(**settings)
    views = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
    return [dict(type='TestTimeAug', transforms=[[load], views, [pack]])]


def twice(dataset):
    return dict(type='ConcatDataset', datasets=[dataset, dataset])


@pytest.mark.parametrize('run', ['train', 'val', 'test'])
def test_an_evaluation_that_skips_is_refused(root, run):
    hooks = [EveryTestImageHook()]
    runner = make_runner(root, plain(on_error='skip'), hooks)
    split = 'test' if run == 'test' else 'val'
    with pytest.raises(ValueError, match=f'{split}_dataloader.*on_error'):
        getattr(runner, run)()
    assert runner.iter == 0


@pytest.mark.parametrize('make_pipeline', [plain, two_views])
@pytest.mark.parametrize('wrap', [twice, lambda dataset: dataset])
def test_skipping_is_found_wherever_it_is(root, make_pipeline, wrap):
    pipeline = make_pipeline(on_error='skip')
    runner = make_runner(root, pipeline, [EveryTestImageHook()], wrap)
    with pytest.raises(ValueError, match='on_error'):
        runner.test()


@pytest.mark.parametrize('run', ['train', 'val', 'test'])
def test_the_loader_of_mmcv_may_not_skip_either(root, run):
    runner = make_runner(root, of_mmcv(True), [EveryTestImageHook()])
    with pytest.raises(ValueError, match='set ignore_empty=False there'):
        getattr(runner, run)()
    assert runner.iter == 0


@pytest.mark.parametrize('pipeline', [plain(), of_mmcv(False)])
def test_an_evaluation_that_does_not_skip_passes(root, pipeline):
    (root / 'val' / 'class' / 'bad.png').unlink()
    runner = make_runner(root, pipeline, [EveryTestImageHook()])
    assert runner.test() == dict(names=['good.png'])


@pytest.mark.parametrize('skipping', [plain(on_error='skip'), of_mmcv(True)])
def test_without_the_hook_another_image_is_tested_twice(root, skipping):
    (root / 'val' / 'class' / 'bad.png').write_bytes(b'')
    runner = make_runner(root, skipping, [])
    assert runner.test() == dict(names=['good.png', 'good.png'])
