from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from mmclip.adapting.thresholds import best_threshold, find_thresholds


def draw(images, number=60, seed=0):
    random = np.random.default_rng(seed)
    targets = np.arange(number) < images
    probabilities = random.random(number) / 2 + 0.3 * targets
    return torch.tensor(probabilities).float(), torch.tensor(targets)


def f1_of_all(probabilities, targets):
    """By threshold, one after another."""
    values = [0.0, *probabilities.sort().values.double().tolist(), 1.0]
    thresholds = [(a + b) / 2 for a, b in pairwise(values)]
    return {t: f1_score(targets, probabilities >= t) for t in thresholds}


@pytest.mark.parametrize('images', [1, 6, 40, 60])
def test_no_threshold_has_a_better_f1(images):
    probabilities, targets = draw(images)
    found = best_threshold(probabilities, targets)
    all_ = f1_of_all(probabilities, targets)
    reached = f1_score(targets, probabilities >= found)
    assert reached == pytest.approx(max(all_.values()))
    if images < 60:
        assert f1_score(targets, probabilities >= found / 2) < reached


def test_equal_probabilities_get_the_same_answer():
    probabilities = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.1])
    targets = torch.tensor([True, True, False, False, False])
    assert best_threshold(probabilities, targets) == pytest.approx(0.7)


def test_a_rare_class_takes_the_threshold_of_all_classes():
    columns = [draw(40), draw(1, seed=1), draw(0, seed=2)]
    probabilities, targets = (
        torch.stack(parts, dim=1) for parts in zip(*columns, strict=True)
    )
    many, one, none = find_thresholds(probabilities, targets)
    assert many.threshold == best_threshold(*columns[0])
    shared = best_threshold(probabilities.flatten(), targets.flatten())
    assert one.threshold == none.threshold == shared != many.threshold
    assert [f.own for f in (many, one, none)] == [True, False, False]
    assert [f.images for f in (many, one, none)] == [40, 1, 0]


def test_without_images_it_is_a_half():
    nothing = torch.zeros(0, 2)
    found = find_thresholds(nothing, nothing.bool())
    assert [f.threshold for f in found] == [0.5, 0.5]
