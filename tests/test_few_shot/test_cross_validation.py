import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmclip.few_shot import METHODS
from mmclip.few_shot.cross_validation import choose, make_folds
from mmclip.few_shot.linear_probe import LinearProbe, TextProbe
from mmclip.few_shot.method import Method
from mmclip.few_shot.temperature import best_loss
from mmclip.few_shot.zero_shot import ZeroShot
from tests.test_few_shot.conftest import make_images


def labels_of(*per_class):
    return np.repeat(np.arange(len(per_class)), per_class)


@pytest.mark.parametrize(
    'per_class', [(2, 2), (3, 1, 7), (10,) * 4, (1, 1, 2), (400, 200, 1, 2)]
)
def test_each_class_stays_in_the_rest(per_class):
    labels = labels_of(*per_class)
    folds = make_folds(labels, seed=0)
    assert folds
    held_out = np.concatenate(folds)
    assert len(set(held_out)) == len(held_out)
    for fold in folds:
        rest = np.delete(labels, fold)
        assert set(rest) == set(labels)
    if len(labels) <= 500:  # each image once, but those of single ones
        single = [k for k, n in enumerate(per_class) if n == 1]
        assert (
            sorted(held_out)
            == np.flatnonzero(~np.isin(labels, single)).tolist()
        )
        sizes = [len(fold) for fold in folds]
        assert max(sizes) - min(sizes) <= 1


def test_of_many_images_one_fold_is_held_out():
    labels = labels_of(*[600] * 100)
    (fold,) = make_folds(labels, seed=0)
    assert len(fold) == 2000
    assert len(set(labels[fold].tolist())) == 100


@pytest.mark.parametrize('per_class', [(6, 8), (300, 300, 2)])
def test_copies_stay_together_but_not_if_their_labels_differ(per_class):
    labels = labels_of(*per_class)
    groups = np.arange(len(labels)) // 2
    groups[-1] = groups[0]  # a copy of another class's
    folds = make_folds(labels, seed=0, groups=groups)
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(labels)), fold)
        assert set(labels[rest]) == set(labels)
        same = groups[fold][:, None] == groups[rest]
        same &= labels[fold][:, None] == labels[rest]
        assert not same.any()
    assert len(np.unique(np.concatenate(folds))) > 2


def test_some_classes_choose_for_very_many(monkeypatch):
    monkeypatch.setattr('mmclip.few_shot.cross_validation.MOST_LOGITS', 1000)
    train = make_images((5,) * 30)
    seen = []

    def spy(self, rest, held_out):
        seen.append(rest)
        return iter([torch.zeros(len(held_out), rest.num_classes)] * 4)

    monkeypatch.setattr(Stretched, 'try_all', spy)
    choose(Stretched(), train)
    for rest in seen:
        number = rest.num_classes
        assert 900 < 5 * number * number <= 1000
        assert set(rest.labels.tolist()) == set(range(number))
        for row in rest.pooled[:3]:  # each class has its own text
            old = train.labels[(train.pooled == row).all(dim=1)][0]
            new = rest.labels[(rest.pooled == row).all(dim=1)][0]
            assert torch.equal(
                rest.text.embeddings[new], train.text.embeddings[old]
            )


@pytest.mark.parametrize('method', [LinearProbe(), TextProbe()])
def test_no_c_beyond_a_clearly_worse_one_is_tried(method, monkeypatch):
    images = make_images((99, 99, 99))
    few = np.arange(297) % 99 < 6
    train, new = images.take(few), images.take(~few)

    def tried():
        for settings, logits in zip(
            method.grid(train), method.try_all(train, new), strict=True
        ):
            if logits is not None:
                yield settings['c'], best_loss(logits, new.labels)

    found = dict(sorted(tried()))
    assert len(found) > 1
    monkeypatch.setattr('mmclip.few_shot.linear_probe.WORSE', math.inf)
    whole = dict(sorted(tried()))
    *others, last = found
    assert list(found) == list(whole)[: len(found)] != list(whole)
    assert whole[last] > 1.02 * min(whole.values())
    assert min(whole, key=whole.get) in others


class Stretched(Method):
    """Zero-shot, with noise and on another scale."""

    name = title = source = 'stretched'

    def grid(self, train):
        return [
            dict(noise=noise, scale=scale)
            for noise in (3.0, 0.3)
            for scale in (100.0, 0.01)
        ]

    def fit(self, train, **settings):
        classifier = ZeroShot().fit(train)
        weight = classifier.head.fc.weight
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            noise = torch.randn(weight.shape, generator=generator)
            weight += settings['noise'] * 20 * noise
            weight *= settings['scale']
        return classifier


def test_the_least_loss_wins_whatever_its_scale():
    train = make_images((20, 20, 20))
    found = choose(Stretched(), train)
    assert found.settings['noise'] == 0.3
    logits = Stretched().fit(train, **found.settings).logits(train.pooled)
    right = (logits.argmax(dim=1) == train.labels).double().mean()
    assert found.accuracy == pytest.approx(100 * right.item())


def test_no_image_of_many_is_held_out_if_each_is_the_only_one():
    assert make_folds(np.arange(600), seed=0) == []


def test_one_image_per_class_takes_the_first_settings():
    found = choose(Stretched(), make_images((1, 1, 1)))
    assert (found.settings, found.accuracy) == (
        dict(noise=3.0, scale=100.0),
        None,
    )


def test_only_the_images_held_out_are_classified(monkeypatch):
    train = make_images()
    seen = []

    def spy(self, rest, held_out):
        seen.append((rest.pooled, held_out.pooled))
        return iter([torch.zeros(len(held_out), 3)] * 4)

    monkeypatch.setattr(Stretched, 'try_all', spy)
    choose(Stretched(), train)
    for rest, held_out in seen:
        assert len(rest) + len(held_out) == len(train)
        assert torch.cdist(rest, held_out).min() > 0
    assert sum(len(held_out) for _, held_out in seen) == len(train)


@pytest.mark.parametrize('method', METHODS, ids=lambda m: m.name)
def test_trying_all_is_fitting_each(method, monkeypatch):
    monkeypatch.setattr('mmclip.probing.logistic.TOLERANCE', 1e-12)
    if method.name == 'tip_adapter_f':
        pytest.skip('it chooses before it trains')
    train = make_images()
    new = replace(train, pooled=make_images(seed=1).pooled)
    grid = method.grid(train)
    tried = list(method.try_all(train, new))
    assert len(tried) == len(grid)
    for settings, logits in zip(grid, tried, strict=True):
        expected = method.fit(train, **settings).logits(new.pooled)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('method', METHODS, ids=lambda m: m.name)
def test_every_method_learns_from_two_images_per_class(method, monkeypatch):
    monkeypatch.setattr('mmclip.few_shot.cross_validation.FOLDS', 2)
    train = make_images((2, 2, 2))
    settings = choose(method, train).settings
    logits = method.fit(train, **settings).logits(train.pooled)
    assert F.cross_entropy(logits, train.labels).isfinite()
