"""ImageNet-ReaL, against timm's own evaluation."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from mmpretrain.structures import DataSample
from timm.data.real_labels import RealLabelsImagenet

from mmclip.evaluation import ReaLAccuracy


def sample(path: str, scores: torch.Tensor) -> DataSample:
    data_sample = DataSample().set_gt_label(0).set_pred_score(scores)
    data_sample.set_field(path, 'img_path', field_type='metainfo')
    return data_sample


def evaluate(metric: ReaLAccuracy, samples: list[DataSample]) -> dict:
    evaluator = Evaluator(metric)
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def image(number: int) -> str:
    return f'val/n01440764/ILSVRC2012_val_{number:08d}.JPEG'


@pytest.fixture
def labels(tmp_path: Path) -> str:
    path = tmp_path / 'real.json'
    path.write_text(json.dumps([[1], [], [0, 3]]))
    return str(path)


def test_any_of_the_labels_is_right_and_unlabelled_images_are_left_out(labels):
    best_is_3 = torch.tensor([0.1, 0.2, 0.0, 0.7])
    samples = [sample(image(n), best_is_3) for n in (3, 1, 2)]  # any order
    metrics = evaluate(ReaLAccuracy((1, 2), labels), samples)
    assert metrics == {'real/images': 2, 'real/top1': 50, 'real/top2': 100}


def test_all_labels_of_timm_give_what_timm_computes():
    theirs = RealLabelsImagenet([image(n + 1) for n in range(50000)])
    scores = torch.rand(600, 1000, generator=torch.Generator().manual_seed(0))
    for row, labels in zip(scores, theirs.real_labels.values(), strict=False):
        row[labels[:1]] += 0.5  # so that some are right
    theirs.add_result(scores)
    samples = [sample(image(i + 1), row) for i, row in enumerate(scores)]
    ours = evaluate(ReaLAccuracy(), samples)
    assert 1 < ours['real/top1'] < 99
    assert ours['real/top1'] == pytest.approx(theirs.get_accuracy(1))
    assert ours['real/top5'] == pytest.approx(theirs.get_accuracy(5))


@pytest.mark.parametrize('name', ['cat.jpg', 'ILSVRC2012_val_00000004.JPEG'])
def test_other_images_are_refused(labels, name):
    with pytest.raises(
        ValueError, match=f'{name}: .* needs the original file names'
    ):
        evaluate(ReaLAccuracy((1,), labels), [sample(name, torch.rand(4))])


def test_no_labelled_image_is_an_error(labels):
    metric = ReaLAccuracy((1,), labels)
    with pytest.raises(ValueError, match='no label for any of 1 images'):
        evaluate(metric, [sample(image(2), torch.rand(4))])


def test_configs_name_it_without_imports():
    config = dict(type='mmclip.ReaLAccuracy')
    assert len(METRICS.build(config).labels) == 50000
