import math

import pytest
import torch
import torch.nn.functional as F

from mmclip.adapting.calibration import (
    calibrate,
    calibration_error,
    find_threshold,
    make_bins,
)
from mmclip.few_shot.temperature import (
    best_loss,
    cross_entropy,
    fit_temperature,
)


def overconfident(number, factor=3.0, num_classes=4, seed=0):
    """Logits whose right temperature is ``factor``."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(number, num_classes, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)
    return factor * logits, labels[:, 0]


def test_the_temperature_has_the_least_loss_of_a_fine_grid():
    logits, labels = overconfident(500)
    found = fit_temperature(logits, labels)
    grid = [math.exp(x / 1000) for x in range(-1000, 3000)]
    losses = [F.cross_entropy(logits.double() / t, labels) for t in grid]
    best = grid[int(torch.stack(losses).argmin())]
    assert found == pytest.approx(best, rel=0.02)  # labels are smoothed
    assert found == pytest.approx(3, rel=0.2)


@pytest.mark.parametrize('number', [1, 3, 10, 1000])
def test_all_right_is_not_certain(number):
    logits = 5 * torch.eye(4).repeat(250, 1)[:number]
    labels = torch.arange(4).repeat(250)[:number]
    found = fit_temperature(logits, labels)
    sure = (logits / found).softmax(dim=1).max(dim=1).values
    assert (1 - sure).min() > 0.1 / (number + 2)
    assert (1 - sure).max() < 1 / (number + 2)


def test_the_error_is_that_of_its_definition():
    logits, labels = overconfident(300)
    sure, predicted = logits.softmax(dim=1).max(dim=1)
    right = predicted == labels
    expected = 0.0
    for i in range(15):
        rows = [
            row
            for row in range(300)
            if i / 15 < sure[row].item() <= (i + 1) / 15
        ]
        if rows:
            accuracy = sum(right[row].item() for row in rows) / len(rows)
            confidence = sum(sure[row].item() for row in rows) / len(rows)
            expected += len(rows) / 300 * abs(accuracy - confidence)
    bins = make_bins(sure, right)
    assert calibration_error(bins) == pytest.approx(100 * expected, rel=1e-6)
    assert sum(b.images for b in bins) == 300


def test_calibration_lowers_the_error():
    found = calibrate(*overconfident(2000))
    assert found.error_before > 15 > 5 > found.error_after
    assert found.accuracy_of_answered >= 95
    assert 0 < found.answered < 100


@pytest.mark.parametrize(
    'sure, right, expected',
    [
        ([0.9, 0.8, 0.3], [1, 1, 1], 0.0),
        ([0.9, 0.8, 0.3], [0, 0, 0], 1.0),
        ([0.3, 0.9, 0.8], [0, 1, 1], 0.8),
        ([0.9, 0.8, 0.8], [1, 1, 0], 0.9),  # equal ones are not torn apart
        ([0.9] * 20 + [0.5], [1] * 19 + [0, 0], 0.9),
        ([], [], 0.0),
    ],
)
def test_the_threshold_answers_with_95_percent(sure, right, expected):
    found = find_threshold(
        torch.tensor(sure), torch.tensor(right).bool(), least=1
    )
    assert found == pytest.approx(expected)


def test_few_answers_make_no_promise():
    sure, right = torch.linspace(1, 0.5, 40), torch.arange(40) < 10
    assert find_threshold(sure, right) == 1.0
    assert find_threshold(sure[:19], right[:19]) == 0.0


def test_all_wrong_is_never_sure():
    logits, _ = overconfident(40)
    found = calibrate(logits, (logits.argmax(dim=1) + 1) % 4)
    assert (found.answered, found.accuracy_of_answered) == (0, None)


def test_no_images_change_nothing():
    found = calibrate(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert (found.temperature, found.threshold, found.bins) == (1, 0, [])
    assert (found.error_after, found.answered) == (0, 0)


@pytest.mark.parametrize('factor', [0.5, 1.0, 1.3, 3.0])
def test_of_15_images_calibration_is_not_worse_on_average(factor):
    logits, labels = overconfident(2000, factor, seed=1)
    before = cross_entropy(logits, labels, 1.0)
    kept, fitted = [], []
    for seed in range(40):
        few = overconfident(15, factor, seed=seed + 2)
        kept.append(cross_entropy(logits, labels, calibrate(*few).temperature))
        fitted.append(cross_entropy(logits, labels, fit_temperature(*few)))
    mean = sum(kept) / len(kept)
    assert mean < before + 0.01
    if factor == 1.0:  # without the prior it is
        assert sum(fitted) / len(fitted) > before + 0.02


def test_of_many_images_the_prior_changes_little():
    images = overconfident(300)
    expected = fit_temperature(*images)
    assert calibrate(*images).temperature == pytest.approx(expected, rel=0.15)


def test_other_images_help_to_fit_the_temperature():
    few, more = overconfident(10, seed=1), overconfident(300)
    found = calibrate(*few, more=more).temperature
    assert found == pytest.approx(3, rel=0.2)
    assert best_loss(*more) < cross_entropy(*more, 1.0)


def test_what_is_fitted_to_validation_is_measured_on_test_images():
    val, test = overconfident(300), overconfident(500, factor=1.0, seed=1)
    found, without = calibrate(*val, test=test), calibrate(*val)
    assert found.temperature == without.temperature
    assert found.threshold == without.threshold
    assert (found.split, without.split) == ('test', 'val')
    assert sum(b.images for b in found.bins) == 500
    assert found.error_after > found.error_before  # these were calibrated
