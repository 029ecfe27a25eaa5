from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from mmclip.few_shot.method import Encoded, Method
from mmclip.few_shot.several_labels import (
    LinearProbe,
    NearestNeighbours,
    ZeroShot,
    choose,
    make_folds,
    out_of_fold,
)
from mmclip.named_model.encoder import Projection
from mmclip.text.class_embeddings import ClassEmbeddings
from tests.test_few_shot.formulas import unit


def make_images(number: int = 60, seed: int = 0) -> Encoded:
    """Sums of classes, some of them rare, with a text that half knows them."""
    classes = torch.Generator().manual_seed(9)
    centres = torch.randn(4, 10, generator=classes)
    weight = torch.randn(10, 6, generator=classes) / 10**0.5
    names = centres @ weight + torch.randn(4, 6, generator=classes)
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor([0.5, 0.3, 0.2, 0.1])
    targets = torch.rand(number, 4, generator=generator) < shares
    noise = torch.randn(number, 10, generator=generator)
    return Encoded(
        targets.float() @ centres + 2 * noise,
        targets,
        4,
        Projection(weight),
        ClassEmbeddings(F.normalize(names, dim=-1), 20.0, 0.0),
    )


@pytest.fixture
def train():
    return make_images()


@pytest.fixture
def new():
    return make_images(seed=1).pooled


@pytest.mark.parametrize('c', [0.1, 10.0])
def test_the_linear_probe_is_scikit_learns_of_each_class(train, new, c):
    found = LinearProbe().fit(train, c=c).logits(new).sigmoid().numpy()
    x = train.pooled.double().numpy()
    size = np.sqrt(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())

    def expected(c):
        model = LogisticRegression(C=c, tol=1e-8, max_iter=10_000)
        return np.stack(
            [
                model.fit(x / size, y).predict_proba(new.double() / size)[:, 1]
                for y in train.labels.T.numpy()
            ],
            axis=1,
        )

    np.testing.assert_allclose(found, expected(c), atol=2e-3)
    assert np.abs(found - expected(1.5 * c)).max() > 1e-2


def zero_shot_gradients(train, classifier, numerator):
    """Of the cross entropies, by the scale and by each bias, in float64."""
    t = train.text.embeddings.double().numpy()
    f = unit(train.pooled.double().numpy() @ train.projection.weight.numpy())
    w = classifier.head.fc.weight.detach().double().numpy()
    b = classifier.head.fc.bias.detach().double().numpy()
    scale = np.linalg.norm(w, axis=1)
    np.testing.assert_allclose(w / scale[:, None], t, atol=1e-6)
    assert np.ptp(scale) < 1e-4
    y = train.labels.double().numpy()
    positive = (y.sum(0) + numerator) / (y.sum(0) + 2 * numerator)
    negative = numerator / ((1 - y).sum(0) + 2 * numerator)
    wanted = np.where(y, positive, negative)
    wrong = 1 / (1 + np.exp(-(f @ w.T + b))) - wanted
    return abs((wrong * (f @ t.T)).sum()), np.abs(wrong.sum(axis=0))


def test_zero_shot_is_at_the_minimum_of_its_loss(train):
    found = ZeroShot().fit(train, own_biases=True)
    by_scale, by_biases = zero_shot_gradients(train, found, numerator=1)
    assert by_scale < 1e-3 and by_biases.max() < 1e-3
    _, by_biases = zero_shot_gradients(train, found, numerator=0)
    assert by_biases.max() > 0.05


def test_zero_shot_may_have_one_bias(train):
    found = ZeroShot().fit(train, own_biases=False)
    assert found.head.fc.bias.unique().numel() == 1
    _, by_biases = zero_shot_gradients(train, found, numerator=1)
    assert by_biases.max() > 0.1  # only their sum is zero


@pytest.mark.parametrize('sign', [1, -1])
def test_zero_shot_keeps_the_order_of_cosines(train, new, sign):
    """Even if the names fit the images worse than chance."""
    text = replace(train.text, embeddings=sign * train.text.embeddings)
    train = replace(train, text=text)
    logits = ZeroShot().fit(train, own_biases=True).logits(new)
    embedded = replace(train, pooled=new).embedded()
    cosines = embedded @ text.embeddings.T
    assert (logits.argsort(0) == cosines.argsort(0)).all()


@pytest.mark.parametrize('rows', [[0, 1, 2], slice(0, 9)])
def test_few_images_have_finite_logits(train, new, rows):
    few = train.take(range(len(train)))
    few = replace(few, pooled=few.pooled[rows], labels=few.labels[rows])
    logits = ZeroShot().fit(few, own_biases=True).logits(new)
    assert logits.abs().max() < 50


def votes(train, new, k, temperature=0.07):
    """DINO, arXiv 2104.14294, appendix F.1, in float64."""
    cosines = (
        unit(new.double().numpy()) @ unit(train.pooled.double().numpy()).T
    )
    shares = np.zeros((len(new), train.num_classes))
    for row, similar in enumerate(cosines):
        nearest = np.argsort(-similar)[:k]
        weights = np.exp(similar[nearest] / temperature)
        shares[row] = weights @ train.labels.numpy()[nearest] / weights.sum()
    return shares.clip(0.001, 0.999)


@pytest.mark.parametrize('k', [1, 4, 99])
def test_nearest_neighbours_vote_on_each_class(train, new, k):
    head = NearestNeighbours().fit(train, k=k)
    found = head.logits(new).sigmoid().numpy()
    k = min(k, len(train))
    np.testing.assert_allclose(found, votes(train, new, k), atol=1e-5)
    if k > 1:
        others = votes(train, new, k, temperature=0.1)
        assert np.abs(found - others).max() > 1e-3


def test_each_class_stays_in_the_rest():
    targets = make_images(200).labels.numpy()
    targets[:, 3] = False
    targets[[7, 9], 3] = True  # two of them
    targets = np.column_stack([targets, np.arange(200) == 11])  # one
    folds = make_folds(targets, seed=0)
    held_out = np.concatenate(folds)
    assert sorted(held_out) == [row for row in range(200) if row != 11]
    for fold in folds:
        assert np.delete(targets, fold, axis=0).any(axis=0).all()
    parts = [targets[fold][:, :3].sum(axis=0) for fold in folds]
    assert np.ptp(parts, axis=0).max() <= 2
    assert np.ptp([len(fold) for fold in folds]) <= 2


def test_single_images_of_each_class_cannot_be_held_out():
    assert make_folds(np.eye(4, dtype=bool), seed=0) == []


def test_all_settings_are_tried_as_they_fit(train):
    images = make_images(seed=1)
    probe = LinearProbe()
    for settings, found in zip(
        probe.grid(train), probe.try_all(train, images), strict=True
    ):
        expected = probe.fit(train, **settings).logits(images.pooled)
        torch.testing.assert_close(
            found.sigmoid(), expected.sigmoid(), rtol=0, atol=5e-3
        )


class Guessed(LinearProbe):
    """May say the opposite."""

    try_all = Method.try_all

    def grid(self, train):
        return [dict(c=c, sign=sign) for c in (5.0, 0.5) for sign in (-1, 1)]

    def fit(self, train, **settings):
        found = super().fit(train, c=settings['c'])
        with torch.no_grad():
            found.head.fc.weight.mul_(settings['sign'])
        return found


def test_the_settings_of_the_least_log_loss_are_chosen(train):
    choice = choose(Guessed(), train)
    losses = {}
    for settings in Guessed().grid(train):
        found, targets = out_of_fold(Guessed(), settings, train)
        loss = F.binary_cross_entropy(found, targets.float())
        losses[settings['c'], settings['sign']] = loss, found
    best = min(losses, key=lambda key: losses[key][0])
    assert best == (choice.settings['c'], choice.settings['sign'])
    assert best[1] == 1
    expected = average_precision_score(targets, losses[best][1])
    assert choice.precision == pytest.approx(100 * expected)


def test_an_image_is_not_judged_by_what_has_learned_it(train):
    """Labels that say nothing of the images are learned by heart only."""
    mixed = train.labels[np.random.default_rng(0).permutation(len(train))]
    train = replace(train, labels=mixed)
    settings = dict(c=100.0)
    learned = LinearProbe().fit(train, **settings).logits(train.pooled)
    found, targets = out_of_fold(LinearProbe(), settings, train)
    assert average_precision_score(mixed, learned) > 0.6
    assert average_precision_score(targets, found) < 0.5


def test_copies_are_not_learned_by_what_judges_them(train):
    """Labels that say nothing of the images; each image is there twice."""
    mixed = train.labels[np.random.default_rng(0).permutation(len(train))]
    twice = replace(
        train,
        pooled=train.pooled.repeat(2, 1),
        labels=mixed.repeat(2, 1),
    )
    copies = np.arange(len(twice)) % len(train)
    method, settings = NearestNeighbours(), dict(k=1)
    for groups, is_seen in ((None, True), (copies, False)):
        found, targets = out_of_fold(method, settings, twice, groups=groups)
        precision = average_precision_score(targets, found)
        assert (precision > 0.6) == is_seen
    probe = LinearProbe()
    trusting = choose(probe, twice).settings['c']
    assert trusting > choose(probe, twice, groups=copies).settings['c']


def test_copies_are_in_one_fold_and_no_class_leaves_the_rest(train):
    targets = train.labels.numpy().repeat(2, axis=0)
    copies = np.arange(len(targets)) // 2
    folds = make_folds(targets, 0, copies)
    assert sum(map(len, folds)) == len(set(np.concatenate(folds)))
    for fold in folds:
        assert not np.isin(np.delete(copies, fold), copies[fold]).any()
        assert np.delete(targets, fold, axis=0).any(axis=0).all()


def test_without_folds_nothing_is_out_of_them():
    few = make_images(4)
    few = replace(few, labels=torch.eye(4, dtype=torch.bool))
    found, targets = out_of_fold(LinearProbe(), dict(c=1.0), few)
    assert found.shape == targets.shape == (0, 4)
    assert choose(LinearProbe(), few).precision is None
