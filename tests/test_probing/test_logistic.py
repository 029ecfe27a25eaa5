"""Logistic regression: torch's against scikit-learn's."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from mmclip.probing import LinearClassifier, fit, logistic, sweep
from mmclip.probing.sweep import _rank, _try


def samples(num_classes, number=120, width=10, seed=0):
    """Classes that overlap."""
    random = np.random.default_rng(seed)
    labels = np.arange(number) % num_classes
    means = np.random.default_rng(1).normal(size=(num_classes, width))
    return random.normal(size=(number, width)) + means[labels], labels


def objective(classifier, features, labels, c):
    """What the docstring of ``fit`` says, for more than two classes."""
    weight = torch.tensor(classifier.weight, dtype=torch.float64)
    bias = torch.tensor(classifier.bias, dtype=torch.float64)
    logits = F.linear(torch.tensor(features).double(), weight, bias)
    loss = F.cross_entropy(logits, torch.tensor(labels), reduction='sum')
    return (c * loss + weight.square().sum() / 2).item()


def fit_sklearn(features, labels, num_classes, c):
    """To the end: its own tolerance is too large for many classes."""
    model = LogisticRegression(C=c, max_iter=5000, tol=1e-7)
    with warnings.catch_warnings():  # of line searches at the minimum
        warnings.simplefilter('ignore', ConvergenceWarning)
        model.fit(features.astype(np.float64), labels)
    weight, bias = model.coef_, model.intercept_
    if num_classes == 2:  # its one row
        weight = np.concatenate([-weight / 2, weight / 2])
        bias = np.concatenate([-bias / 2, bias / 2])
    return LinearClassifier(
        weight.astype(np.float32), bias.astype(np.float32), True
    )


@pytest.mark.parametrize('num_classes', [2, 5])
@pytest.mark.parametrize('c', [1e-3, 1.0, 30.0])
def test_weights_and_probabilities_are_those_of_scikit_learn(
    num_classes, c, monkeypatch
):
    monkeypatch.setattr(logistic, 'TOLERANCE', 1e-12)
    x, y = samples(num_classes)
    ours = fit(x, y, num_classes, c)
    theirs, other = (
        fit_sklearn(x, y, num_classes, value) for value in (c, 2 * c)
    )
    bound = 1e-4 * np.abs(theirs.weight).max()
    assert np.abs(ours.weight - theirs.weight).max() < bound
    assert np.abs(ours.weight - other.weight).max() > 10 * bound
    scores = [
        classifier.scores(x.astype('f')) for classifier in (ours, theirs)
    ]
    torch.testing.assert_close(
        scores[0].softmax(1), scores[1].softmax(1), rtol=0, atol=1e-4
    )


# Classes, samples of each, channels; the distance of classes and the ratio of
# the largest channel to the smallest, as a few of CLIP's are much larger.
PROBLEMS = {
    'ten': (10, 60, 24, 0.4, 30),
    'a thousand': (1000, 2, 16, 1.0, 1),
}


def problem(name):
    """To train on and to validate on: ``x, y, x_val, y_val``."""
    num_classes, number, width, distance, ratio = PROBLEMS[name]
    random = np.random.default_rng(0)
    means = distance * random.normal(size=(num_classes, width))
    scales = np.geomspace(1, ratio, width)
    found = []
    for count in (number * num_classes, 4000):
        labels = np.arange(count) % num_classes
        noise = random.normal(size=(count, width))
        found += [((means[labels] + noise) * scales).astype('f'), labels]
    return num_classes, *found


def test_the_best_c_is_that_of_scikit_learn():
    """Of its neighbours; accuracies to 0.1 %, what is minimised to 1e-5."""
    num_classes, x, y, x_val, y_val = problem('ten')
    ours = sweep(partial(fit, x, y, num_classes), x_val, y_val)[0]
    solve = partial(fit_sklearn, x, y, num_classes)
    theirs = [
        _try(ours.c * 10**decades, solve, x_val, y_val)[0]
        for decades in (-1 / 8, 0, 1 / 8)
    ]
    assert min(theirs, key=_rank) is theirs[1]
    assert ours.accuracy == pytest.approx(theirs[1].accuracy, abs=0.1)
    assert ours.loss == pytest.approx(theirs[1].loss, rel=1e-4)
    lowest = objective(solve(ours.c), x, y, ours.c)
    found, other = (
        objective(fit(x, y, num_classes, c), x, y, ours.c)
        for c in (ours.c, 1.5 * ours.c)
    )
    assert found == pytest.approx(lowest, rel=1e-5)
    assert other != pytest.approx(lowest, rel=1e-5)


@pytest.mark.slow
def test_a_thousand_classes_are_fitted_as_by_scikit_learn():
    num_classes, x, y, x_val, y_val = problem('a thousand')
    ours, theirs = (
        [
            _try(c, partial(solve, x, y, num_classes), x_val, y_val)[0]
            for c in (0.01, 0.1)
        ]
        for solve in (fit, fit_sklearn)
    )
    assert min(ours, key=_rank).c == min(theirs, key=_rank).c
    for one, two in zip(ours, theirs, strict=True):
        assert one.accuracy == pytest.approx(two.accuracy, abs=0.1)
        assert one.loss == pytest.approx(two.loss, rel=1e-4)
    assert ours[0].loss != pytest.approx(theirs[1].loss, rel=1e-4)


def test_chunks_make_no_difference(monkeypatch):
    x, y = samples(5)
    whole = fit(x, y, 5, 1.0)
    monkeypatch.setattr(logistic, 'CHUNK', 50)
    parts = fit(x, y, 5, 1.0)
    np.testing.assert_allclose(parts.weight, whole.weight, atol=1e-5)
    features = x.astype('f')
    assert torch.equal(
        parts.scores(features),
        F.linear(
            torch.tensor(features),
            torch.tensor(parts.weight),
            torch.tensor(parts.bias),
        ),
    )


def test_too_few_iterations_are_reported():
    x, y = samples(5)
    assert logistic.LogisticRegression(x, y, 5).fit(1.0).converged
    few = logistic.LogisticRegression(x, y, 5, max_iterations=2)
    assert not few.fit(1.0).converged


def test_a_second_run_finds_the_same_bits():
    x, y = samples(5)
    one, two = (fit(x, y, 5, 1.0) for _ in range(2))
    assert (one.weight == two.weight).all()
    assert (one.bias == two.bias).all()


def test_a_channel_that_never_changes_makes_no_difference():
    x, y = samples(5)
    with_it = np.concatenate([x, np.full((len(x), 1), 7.0)], axis=1)
    one, two = (
        fit(features, y, 5, 1.0).scores(features.astype('f')).softmax(1)
        for features in (x, with_it)
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-3)


def test_a_class_without_samples_is_an_error():
    x, y = samples(4)
    with pytest.raises(ValueError, match=r'1 of 5 classes .* number 4'):
        fit(x, y, 5, 1.0)
