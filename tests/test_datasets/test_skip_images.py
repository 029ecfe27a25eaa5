"""What cannot be loaded is skipped, counted and logged, or ends training."""

import copy
import os
import re

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from PIL import Image
from torch.utils.data import DataLoader

from mmclip.datasets import LoadImage, LoadImageError
from mmclip.datasets.resumable_sampler import SampleIndex
from tests.test_datasets.conftest import random_pixels

BAD = ('1.png', '4.png', '5.png')


@pytest.fixture
def folder(tmp_path):
    """Eight images of one class, of which three are truncated."""
    root = tmp_path / 'images'
    (root / 'class').mkdir(parents=True)
    for i in range(8):
        path = root / 'class' / f'{i}.png'
        Image.fromarray(random_pixels(seed=i)).save(path)
        if path.name in BAD:
            os.truncate(path, path.stat().st_size // 2)
    return root


@pytest.fixture
def log(tmp_path):
    """The file that the current logger writes."""
    path = tmp_path / 'run.log'
    MMLogger.get_instance(tmp_path.name, log_file=str(path))
    return path


def pipeline(**settings):
    return [
        dict(type='mmclip.SeedSample'),
        dict(type='mmclip.LoadImage', **settings),
        dict(type='PackInputs'),
    ]


def make_dataset(root, **settings):
    init_default_scope('mmpretrain')
    return CustomDataset(str(root), pipeline=pipeline(**settings))


def skips(log):
    """The numbers and the names of the files that a log says are skipped."""
    pattern = r'Skipped image (\d+) \(at most \d+\): .*/(\d\.png): .*truncated'
    found = re.findall(pattern, log.read_text())
    return [int(number) for number, _ in found], {name for _, name in found}


def test_a_skipped_image_is_logged_once_with_a_number(folder, log):
    load = LoadImage('skip')
    for name in (*BAD, *BAD):
        load(dict(img_path=str(folder / 'class' / name)))
    assert skips(log) == ([1, 2, 3], set(BAD))


def test_one_file_too_many_raises(folder, log):
    load = LoadImage('skip', max_errors=2)
    for name in BAD[:2] * 3:
        load(dict(img_path=str(folder / 'class' / name)))
    with pytest.raises(LoadImageError, match=r'More than 2 .*5\.png'):
        load(dict(img_path=str(folder / 'class' / BAD[2])))


def test_copies_count_together(folder, log):
    loads = [LoadImage('skip', max_errors=2)]
    loads += [copy.deepcopy(loads[0]) for _ in range(2)]
    with pytest.raises(LoadImageError, match='More than 2'):
        for load, name in zip(loads, BAD, strict=True):
            load(dict(img_path=str(folder / 'class' / name)))


def test_workers_count_and_log_together(folder, log):
    dataset = make_dataset(folder, on_error='skip')
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    for _ in range(2):  # epochs, each with workers of its own
        assert len(list(loader)) == 8
    numbers, names = skips(log)
    assert sorted(numbers) == [1, 2, 3]
    assert names == set(BAD)


@pytest.mark.parametrize(
    'start', ['fork', pytest.param('spawn', marks=pytest.mark.slow)]
)
def test_workers_have_one_limit_and_one_log(folder, log, start):
    loader = DataLoader(
        make_dataset(folder, on_error='skip', max_errors=2),
        batch_size=None,
        num_workers=2,
        multiprocessing_context=start,
    )
    with pytest.raises(LoadImageError, match='More than 2 images'):
        list(loader)
    numbers, names = skips(log)
    assert sorted(numbers) == [1, 2]
    assert len(names & set(BAD)) == 2


def test_the_image_in_its_place_depends_on_the_seed_alone(folder, log):
    dataset = make_dataset(folder, on_error='skip')

    def drawn(seed):
        np.random.seed(None)
        return dataset[SampleIndex(1, seed)]['data_samples'].img_path

    paths = [drawn(seed) for seed in range(10)]
    assert paths == [drawn(seed) for seed in range(10)]
    assert len(set(paths)) > 1
    assert not any(path.endswith(BAD) for path in paths)


class Mean(BaseModel):
    """Learns one number, and remembers which images it saw."""

    def __init__(self):
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, inputs, data_samples, mode='tensor'):
        self.seen += [sample.img_path for sample in data_samples]
        pixels = torch.stack(inputs) / 255
        return dict(loss=(pixels - self.number).square().mean())


def train(tmp_path, folder, num_workers, **settings):
    """Two epochs of four batches of two images."""
    runner = Runner(
        Mean(),
        work_dir=str(tmp_path / 'work'),
        train_dataloader=dict(
            batch_size=2,
            num_workers=num_workers,
            dataset=dict(
                type='CustomDataset',
                data_root=str(folder),
                pipeline=pipeline(**settings),
            ),
            sampler=dict(type='mmclip.ResumableSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_scope='mmpretrain',
        randomness=dict(seed=0),
        experiment_name=f'{tmp_path.name}-{num_workers}',
    )
    runner.train()
    return runner


@pytest.mark.parametrize('num_workers', [0, 2])
def test_training_stops_at_a_truncated_image(tmp_path, folder, num_workers):
    with pytest.raises(LoadImageError, match=r'/[145]\.png: .*truncated'):
        train(tmp_path, folder, num_workers)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_training_goes_on_with_other_images(tmp_path, folder, num_workers):
    runner = train(tmp_path, folder, num_workers, on_error='skip')
    assert len(runner.model.seen) == 16
    assert not any(path.endswith(BAD) for path in runner.model.seen)
    (log,) = (tmp_path / 'work').glob('*/*.log')
    numbers, names = skips(log)
    assert sorted(numbers) == [1, 2, 3]
    assert names == set(BAD)


def test_workers_do_not_change_what_is_seen(tmp_path, folder):
    runs = [
        train(tmp_path / str(n), folder, n, on_error='skip') for n in (0, 2)
    ]
    assert runs[0].model.seen == runs[1].model.seen


@pytest.mark.parametrize('num_workers', [0, 2])
def test_training_stops_at_the_limit(tmp_path, folder, num_workers):
    with pytest.raises(LoadImageError, match='More than 2 images'):
        train(tmp_path, folder, num_workers, on_error='skip', max_errors=2)
