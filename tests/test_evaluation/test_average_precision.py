import mmpretrain.evaluation
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from mmpretrain.structures import DataSample
from sklearn.metrics import average_precision_score

from mmclip.evaluation.average_precision import (
    average_precision,
    resampled_means,
)


def images(number=40, classes=4, seed=0):
    """Scores that half know the labels, some of them equal."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.rand(number, classes, generator=generator) < 0.3
    scores = torch.rand(number, classes, generator=generator) + 0.5 * targets
    return (10 * scores).round() / 10, targets


def scikit_learns(scores, targets, counts=None):
    return [
        average_precision_score(y, s, sample_weight=counts)
        for s, y in zip(scores.T.numpy(), targets.T.numpy(), strict=True)
    ]


def test_it_is_that_of_scikit_learn():
    scores, targets = images()
    found = average_precision(scores, targets)
    np.testing.assert_allclose(found, scikit_learns(scores, targets))
    others = scikit_learns(scores.square() * (1 - scores), targets)
    assert np.abs(found.numpy() - others).min() > 0.01


def test_images_may_count_several_times():
    scores, targets = images()
    counts = torch.tensor([[0, 1, 2, 3] * 10, [1, 1, 0, 0] * 10])
    found = average_precision(scores, targets, counts)
    expected = [scikit_learns(scores, targets, c) for c in counts.numpy()]
    np.testing.assert_allclose(found, expected)


def test_a_class_without_a_positive_image_has_none():
    scores, targets = images()
    targets[:, 2] = False
    found = average_precision(scores, targets)
    assert found.isnan().tolist() == [False, False, True, False]


def measure(scores, targets, kind, **settings):
    evaluator = Evaluator(METRICS.build(dict(type=kind, **settings)))
    evaluator.process(
        [
            DataSample()
            .set_pred_score(s)
            .set_gt_label(y.nonzero()[:, 0])
            .to_dict()
            for s, y in zip(scores, targets, strict=True)
        ]
    )
    return evaluator.evaluate(len(scores))


def test_the_metric_is_mmpretrains_if_all_classes_occur():
    scores, targets = images()
    scores = scores + torch.linspace(0, 0.01, len(scores))[:, None]  # no ties
    theirs = mmpretrain.evaluation.AveragePrecision.calculate(
        scores, targets.long()
    )
    found = measure(scores, targets, 'mmclip.AveragePrecision')
    assert found['multi-label/mAP'] == pytest.approx(theirs.item(), abs=1e-4)


def test_the_metric_leaves_out_classes_that_do_not_occur():
    scores, targets = images()
    targets[:, 1] = False
    found = measure(scores, targets, 'mmclip.AveragePrecision')
    others = [0, 2, 3]
    expected = 100 * average_precision(scores[:, others], targets[:, others])
    assert found['multi-label/mAP'] == pytest.approx(expected.mean().item())
    found = measure(scores, targets, 'mmclip.AveragePrecision', average=None)
    assert np.isnan(found['multi-label/AP_classwise'][1])


def test_resampling_draws_whole_images(monkeypatch):
    """The mean of the samples and their spread, computed one by one."""
    scores, targets = images(60)
    found = resampled_means(scores, targets)
    random = np.random.default_rng(1)
    means = []
    for _ in range(300):
        rows = random.integers(60, size=60)
        means.append(average_precision(scores[rows], targets[rows]).mean())
    assert len(found) == 1000
    assert found.mean() == pytest.approx(np.mean(means), abs=0.015)
    assert found.std() == pytest.approx(np.std(means), rel=0.15)
    # In parts, of the same seed, the same.
    monkeypatch.setattr('mmclip.evaluation.average_precision.CHUNK', 6000)
    torch.testing.assert_close(resampled_means(scores, targets), found)
    assert (resampled_means(scores, targets, seed=1) != found).any()
