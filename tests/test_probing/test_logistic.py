"""Logistic regression: scikit-learn's, torch's, and the sweep over C."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from mmclip.probing import LinearClassifier, fit, logistic, sweep
from mmclip.probing.logistic import Trial, choose_solver

TIGHT = 1e-7  # of the gradient: both solvers at the minimum


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
    logits = F.linear(torch.tensor(features), weight, bias)
    loss = F.cross_entropy(logits, torch.tensor(labels), reduction='sum')
    return (c * loss + weight.square().sum() / 2).item()


@pytest.mark.parametrize('num_classes', [2, 5])
@pytest.mark.parametrize('c', [1e-3, 1.0, 30.0])
def test_both_solvers_agree(num_classes, c):
    x, y = samples(num_classes)
    ours = fit(x, y, num_classes, c, 'torch', TIGHT)
    theirs = fit(x, y, num_classes, c, 'sklearn', TIGHT)
    other = fit(x, y, num_classes, 2 * c, 'sklearn', TIGHT)
    bound = 1e-4 * np.abs(theirs.weight).max()
    assert np.abs(ours.weight - theirs.weight).max() < bound
    assert np.abs(ours.weight - other.weight).max() > 10 * bound
    scores = [
        classifier.scores(x.astype('f')) for classifier in (ours, theirs)
    ]
    torch.testing.assert_close(
        scores[0].softmax(1), scores[1].softmax(1), rtol=0, atol=1e-4
    )


def test_many_classes_are_fitted_to_the_end():
    """Their gradients begin near scikit-learn's default tolerance."""
    x, y = samples(300, number=3000, width=20)
    loose, ours, tight = (
        objective(
            fit(x.astype('f'), y, 300, 10.0, 'torch', tolerance), x, y, 10.0
        )
        for tolerance in (logistic.TOLERANCE, None, TIGHT)
    )
    assert ours - tight < 0.02 * (loose - tight)


@pytest.mark.parametrize('num_classes', [2, 5])
def test_probabilities_are_those_of_scikit_learn(num_classes):
    x, y = samples(num_classes)
    ours = fit(x, y, num_classes, 0.5, 'sklearn')
    theirs = LogisticRegression(C=0.5, max_iter=1000).fit(x, y)
    probabilities = ours.scores(x.astype('f')).softmax(1).numpy()
    np.testing.assert_allclose(
        probabilities, theirs.predict_proba(x), atol=1e-5
    )


def test_the_minimum_is_one():
    x, y = samples(5)
    best = fit(x, y, 5, 0.5, 'torch', TIGHT)
    lowest = objective(best, x, y, 0.5)
    random = np.random.default_rng(2)
    for _ in range(20):
        step = random.normal(size=best.weight.shape, scale=0.01)
        near = LinearClassifier(best.weight + step, best.bias, True)
        assert objective(near, x, y, 0.5) > lowest


def test_chunks_make_no_difference(monkeypatch):
    x, y = samples(5)
    whole = fit(x, y, 5, 1.0, 'torch', TIGHT)
    monkeypatch.setattr(logistic, 'CHUNK', 50)
    parts = fit(x, y, 5, 1.0, 'torch', TIGHT)
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


@pytest.mark.parametrize('solver', ['sklearn', 'torch'])
def test_too_few_iterations_are_reported(monkeypatch, solver):
    x, y = samples(5)
    assert fit(x, y, 5, 1.0, solver).converged
    monkeypatch.setattr(logistic, 'MAX_ITERATIONS', 2)
    assert not fit(x, y, 5, 1.0, solver).converged


def test_a_class_without_samples_is_an_error():
    x, y = samples(4)
    with pytest.raises(ValueError, match=r'1 of 5 classes .* number 4'):
        fit(x, y, 5, 1.0)


def test_an_unknown_solver_is_an_error():
    x, y = samples(4)
    with pytest.raises(ValueError, match=r"sklearn, torch; got 'liblinear'"):
        fit(x, y, 4, 1.0, 'liblinear')


def test_large_problems_go_to_torch():
    small = np.zeros((1000, 1024), np.float32)
    imagenet = np.broadcast_to(np.float32(0), (1_281_167, 1024))
    assert choose_solver(small, 100) == 'sklearn'
    assert choose_solver(imagenet, 1000) == 'torch'


class Peak:
    """Stands for classifiers whose accuracy is best at one exponent."""

    def __init__(self, peak):
        self.peak, self.tried = peak, []

    def __call__(self, c):
        self.tried.append(c)
        wrong = round(10 * abs(np.log10(c) - self.peak))
        return _Guess(np.arange(400) >= wrong)


class _Guess(LinearClassifier):
    def __init__(self, right):
        super().__init__(np.zeros((2, 1)), np.zeros(2), True)
        object.__setattr__(self, 'right', right)

    def scores(self, features):
        right = torch.tensor(self.right, dtype=torch.float32)
        return torch.stack([1 - right, right], dim=1)


@pytest.mark.parametrize('peak', [-6.0, -3.625, 0.5, 1.875, 6.0])
def test_the_sweep_finds_the_best_of_all(peak):
    fit_one = Peak(peak)
    reported = []
    trials = sweep(
        fit_one, np.zeros((400, 1)), np.ones(400, int), reported.append
    )
    assert np.log10(trials[0].c) == pytest.approx(peak)
    decades = np.log10(fit_one.tried[:7])
    assert decades == pytest.approx([-6, -4, -2, 0, 2, 4, 6])
    assert len(fit_one.tried) == len(set(fit_one.tried)) <= 15
    assert all(
        8 * np.log10(c) == pytest.approx(round(8 * np.log10(c)), abs=1e-9)
        for c in fit_one.tried
    )
    assert sorted(reported, key=lambda t: t.c) == sorted(
        trials, key=lambda t: t.c
    )


def test_of_equal_accuracies_the_lower_loss_wins():
    x, y = samples(3)
    trials = sweep(lambda c: fit(x, y, 3, c), x.astype('f'), y)
    best = max(trial.accuracy for trial in trials)
    equal = [trial for trial in trials if trial.accuracy == best]
    assert trials[0] == min(equal, key=lambda trial: trial.loss)
    assert isinstance(trials[0], Trial)
