"""Each sample draws its augmentation from a seed of its own."""

import random

import pytest
from mmcv.transforms import BaseTransform
from mmengine.dataset import (
    BaseDataset,
    ConcatDataset,
    RepeatDataset,
    sampler,
)
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
    indices = ResumableSampler(dataset, shuffle=True, seed=0)
    indices.set_epoch(epoch)
    indices.start = start
    random.seed(start)  # whatever it was before
    return [dataset[index] for index in indices]


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


@pytest.mark.parametrize('processes', [1, 2])
def test_an_epoch_is_shortened_to_whole_steps(monkeypatch, processes):
    """Each epoch leaves out others; no image is seen twice."""
    seen = {}
    for epoch in range(20):
        seen[epoch] = []
        for rank in range(processes):
            monkeypatch.setattr(
                sampler, 'get_dist_info', lambda rank=rank: (rank, processes)
            )
            part = ResumableSampler('abcdefghij', seed=0, images_per_step=3)
            part.set_epoch(epoch)
            assert len(part) == len(list(part)) == {1: 9, 2: 3}[processes]
            seen[epoch] += part
        assert len(set(seen[epoch])) == len(seen[epoch])
    assert set().union(*seen.values()) == set(range(10))


def test_a_step_of_more_images_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r'step takes 5 images .* set has 4'):
        ResumableSampler('abcd', seed=0, images_per_step=5)


def test_a_loop_without_epochs_draws_anew_each_time():
    dataset = letters('abcd')
    indices = iter(ResumableInfiniteSampler(dataset, shuffle=True, seed=0))
    seen = [dataset[next(indices)] for _ in range(12)]
    again = iter(ResumableInfiniteSampler(dataset, shuffle=True, seed=0))
    assert [dataset[next(again)] for _ in range(12)] == seen
    assert len({number for _, number in seen}) == 12
