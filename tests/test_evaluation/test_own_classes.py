"""The metric of sets that have only some of the classes of a head."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from mmpretrain.registry import METRICS

from mmclip.errors import DataError
from mmclip.evaluation import build_test_runner, evaluate
from tests.conftest import REPOSITORY, classifier
from tests.shift_trees import write_images, write_objectnet

RUNTIME = REPOSITORY / 'configs' / '_base_' / 'default_runtime.py'
SUBSET = dict(type='mmclip.SubsetAccuracy')
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(16, 16)),
    dict(type='PackInputs'),
]


def config(folder, kind: str, root, **evaluator) -> Config:
    """With the shipped hooks; nothing but the metric is unusual."""
    cfg = Config.fromfile(RUNTIME)
    cfg.work_dir = str(folder / 'work')
    cfg.experiment_name = folder.name
    cfg.model = classifier(1000)
    cfg.test_dataloader = dict(
        batch_size=2,
        num_workers=0,
        dataset=dict(type=kind, data_root=str(root), pipeline=PIPELINE),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    cfg.test_evaluator = SUBSET | evaluator
    cfg.test_cfg = dict()
    return cfg


def prefer_first_classes(runner: Runner) -> None:
    """Any image is most likely of class 0, then 1, ..."""
    with torch.no_grad():
        runner.model.head.fc.weight.zero_()
        runner.model.head.fc.bias.copy_(-torch.arange(1000) / 100)


@pytest.fixture
def renditions(tmp_path):
    """Goldfish, class 1, the first that ImageNet-R has, and a shark."""
    names = ('n01443537/art_0.jpg', 'n01443537/art_1.jpg', 'n01484850/a.jpg')
    return write_images(tmp_path / 'r', *names)


@pytest.fixture
def objects(tmp_path):
    return write_objectnet(tmp_path / 'objectnet-1.0')


def test_only_own_classes_compete(tmp_path, renditions):
    cfg = config(tmp_path, 'mmclip.ImageNetR', renditions, topk=(1, 2))
    runner = Runner.from_cfg(cfg)
    prefer_first_classes(runner)
    metrics = runner.test()
    assert metrics['accuracy/top1'] == pytest.approx(200 / 3)
    assert metrics['accuracy/top2'] == 100
    assert metrics['accuracy/images'] == 3


REFUSED = r"only .* classes, .*set (val|test)_evaluator\.type='mmclip\.Subset"


@pytest.mark.parametrize('split', ['val', 'test'])
def test_an_accuracy_between_all_classes_is_refused(
    tmp_path, renditions, split
):
    cfg = config(tmp_path, 'mmclip.ImageNetR', renditions, type='Accuracy')
    cfg.default_hooks.pop('checkpoint')  # which would need a training
    cfg.val_dataloader, cfg.val_evaluator, cfg.val_cfg = (
        cfg.test_dataloader,
        cfg.test_evaluator,
        dict(),
    )
    runner = Runner.from_cfg(cfg)
    with pytest.raises(DataError, match=REFUSED):
        getattr(runner, split)()


@METRICS.register_module(force=True)
class AccuracyOfAUser(Accuracy):
    pass


@pytest.mark.parametrize(
    'metric',
    [
        'Accuracy',
        'AccuracyOfAUser',
        'mmpretrain.SingleLabelMetric',
        'ConfusionMatrix',
        'MultiLabelMetric',
    ],
)
def test_a_tool_refuses_it_without_the_shipped_hooks(
    tmp_path, objects, metric
):
    cfg = config(tmp_path, 'mmclip.ObjectNet', objects, type=metric)
    cfg.default_hooks.pop('check_classes')
    runner = build_test_runner(cfg)
    with pytest.raises(DataError, match=REFUSED):
        evaluate(runner, cfg.test_dataloader, cfg.test_evaluator)


def test_metrics_that_need_no_classes_are_taken(tmp_path, renditions):
    dump = dict(type='DumpResults', out_file_path=str(tmp_path / 'x.pkl'))
    cfg = config(tmp_path, 'mmclip.ImageNetR', renditions)
    cfg.test_evaluator = [cfg.test_evaluator, dump]
    Runner.from_cfg(cfg).test()
    assert (tmp_path / 'x.pkl').is_file()


def test_the_shipped_recipe_counts_so():
    cfg = Config.fromfile(REPOSITORY / 'configs' / 'clip' / 'clip-l-336.py')
    assert cfg.test_evaluator.type == SUBSET['type']
