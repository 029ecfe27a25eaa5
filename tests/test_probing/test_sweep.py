import numpy as np
import pytest
import torch

from mmclip.probing import LinearClassifier, fit, sweep
from mmclip.probing.sweep import Trial
from tests.test_probing.test_logistic import samples


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
    decades = np.log10(fit_one.tried)
    clear = max(decades)  # not tried beyond, as it is clearly worse
    assert clear == pytest.approx(min(6, 2 * np.floor(peak / 2 + 1)), abs=2)
    first = np.arange(-6, clear + 1, 2)
    assert decades[: len(first)] == pytest.approx(first)
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
