"""Accuracy among a data set's own classes."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from mmpretrain.structures import DataSample

from mmclip.evaluation import SubsetAccuracy

# Six classes; the best is always class 0, which is none of the set's.
SCORES = [
    [0.5, 0.1, 0.2, 0.0, 0.1, 0.1],
    [0.4, 0.1, 0.1, 0.3, 0.1, 0.0],
    [0.6, 0.1, 0.0, 0.1, 0.0, 0.2],
]


def evaluate(metric: SubsetAccuracy, labels: list[int], **metainfo) -> dict:
    samples = [
        DataSample().set_gt_label(label).set_pred_score(torch.tensor(scores))
        for scores, label in zip(SCORES, labels, strict=True)
    ]
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = metainfo
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def test_only_own_classes_compete():
    own = ((2,), (3,), (5,))
    metrics = evaluate(SubsetAccuracy(1), [2, 3, 2], own_classes=own)
    assert metrics['accuracy/top1'] == pytest.approx(200 / 3)
    assert metrics['accuracy/images'] == 3
    plain = METRICS.build(dict(type='mmpretrain.Accuracy'))
    assert evaluate(plain, [2, 3, 2])['accuracy/top1'] == 0


def test_an_object_scores_as_the_best_of_its_classes():
    # The label is the first class of the object; the second scores best.
    metric = SubsetAccuracy(1, classes=[[1, 3], [2], [4]])
    labels = [2, 1, 4]
    assert evaluate(metric, labels)['accuracy/top1'] == pytest.approx(200 / 3)


def test_any_class_of_an_object_is_its_label():
    metric = SubsetAccuracy(1, classes=[[1, 3], [2], [4]])
    assert evaluate(metric, [2, 3, 4]) == evaluate(metric, [2, 1, 4])


def test_images_of_other_classes_are_left_out():
    metric = SubsetAccuracy(1, classes=[[2], [3]], prefix='own')
    metrics = evaluate(metric, [3, 0, 3])
    assert metrics == {'own/top1': 50, 'own/images': 2}


def test_the_best_k_are_of_own_classes():
    metric = SubsetAccuracy((1, 2), classes=[[1], [3], [5]])
    metrics = evaluate(metric, [5, 1, 1])
    assert metrics['accuracy/top1'] == 0
    assert metrics['accuracy/top2'] == pytest.approx(100)


def test_given_classes_go_before_the_metainfo():
    metric = SubsetAccuracy(1, classes=[[2], [3]])
    metrics = evaluate(metric, [2, 3, 0], own_classes=((0,), (1,)))
    assert metrics['accuracy/images'] == 2


def test_not_a_number_is_wrong():
    metric = SubsetAccuracy(1, classes=[[2], [3]])
    sample = DataSample().set_gt_label(2)
    sample.set_pred_score(torch.full((6,), torch.nan))
    metric.process({}, [sample.to_dict()])
    assert metric.evaluate(1)['accuracy/top1'] == 0


def test_no_image_of_the_classes_is_an_error():
    metric = SubsetAccuracy(1, classes=[[4], [5]], prefix='shift')
    with pytest.raises(ValueError, match=r"None of the 3 images .*'shift'"):
        evaluate(metric, [0, 1, 2])


def test_of_a_data_set_without_own_classes_all_compete():
    plain = METRICS.build(dict(type='mmpretrain.Accuracy', topk=(1, 5)))
    labels = [0, 3, 5]
    for metainfo in {}, dict(own_classes=None):
        assert evaluate(SubsetAccuracy(), labels, **metainfo) == evaluate(
            plain, labels
        )
