"""Each sample draws its augmentation from a seed of its own."""

import random

import pytest
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import TRANSFORMS

from mmclip.datasets.resumable_sampler import (
    ResumableInfiniteSampler,
    ResumableSampler,
)


@TRANSFORMS.register_module()
class Draw(BaseTransform):
    """The augmentation: a random number."""

    def transform(self, results):
        return results['name'], random.random()


class Names(BaseDataset):
    """Samples without files, named by the letters of ``ann_file``."""

    def load_data_list(self):
        return [dict(name=letter) for letter in self.ann_file]


def letters(names):
    pipeline = [dict(type='mmclip.SeedSample'), dict(type='Draw')]
    return Names(ann_file=names, pipeline=pipeline)


def draw(dataset, start=0, epoch=0):
    """What a run sees of an epoch that it enters at a position."""
    sampler = ResumableSampler(dataset, shuffle=True, seed=0)
    sampler.set_epoch(epoch)
    sampler.start = start
    random.seed(start)  # whatever it was before
    return [dataset[index] for index in sampler]


WRAPPED = {
    'plain': lambda: letters('abcd'),
    'concatenated': lambda: ConcatDataset([letters('ab'), letters('cd')]),
    'repeated': lambda: RepeatDataset(letters('ab'), 2),
}


@pytest.mark.parametrize('make', WRAPPED.values(), ids=WRAPPED)
def test_an_epoch_goes_on_where_it_was_left(make):
    whole = draw(make())
    assert draw(make(), start=1) == whole[1:]
    assert draw(make(), epoch=1) != whole
    assert len({number for _, number in whole}) == 4  # also of one image


def test_a_loop_without_epochs_draws_anew_each_time():
    dataset = letters('abcd')
    indices = iter(ResumableInfiniteSampler(dataset, shuffle=True, seed=0))
    seen = [dataset[next(indices)] for _ in range(12)]
    again = iter(ResumableInfiniteSampler(dataset, shuffle=True, seed=0))
    assert [dataset[next(again)] for _ in range(12)] == seen
    assert len({number for _, number in seen}) == 12
