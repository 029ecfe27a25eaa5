"""One model, tested again and again in one process."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from mmclip.evaluation import build_test_runner, evaluate
from tests.conftest import classifier

# Images in each class folder: what share a model gets right that always says
# the same class is known.
SPLITS = {'clean': (1, 2, 5), 'shifted': (4, 3, 1)}


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    """A tiny classifier of three classes, with an EMA hook."""
    random = np.random.default_rng(0)
    for split, counts in SPLITS.items():
        for label, count in enumerate(counts):
            folder = tmp_path / split / str(label)
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{i}.png')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    return Config(
        dict(
            default_scope='mmpretrain',
            work_dir=str(tmp_path / 'work'),
            experiment_name=tmp_path.name,
            model=classifier(3),
            test_dataloader=dict(
                batch_size=3,
                num_workers=0,
                dataset=dict(
                    type='CustomDataset',
                    data_root=str(tmp_path),
                    data_prefix='clean',
                    pipeline=pipeline,
                ),
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            test_evaluator=dict(type='Accuracy', topk=(1,)),
            test_cfg=dict(),
            custom_hooks=[dict(type='EMAHook', momentum=0.1)],
        )
    )


def shifted(cfg: Config) -> dict:
    loader = copy.deepcopy(cfg.test_dataloader)
    loader.dataset.data_prefix = 'shifted'
    return loader


def always_say(runner: Runner, label: int) -> None:
    fc = runner.model.head.fc
    with torch.no_grad():
        fc.weight.zero_()
        fc.bias.copy_(torch.eye(3)[label])


def test_each_call_tests_the_weights_that_the_model_has_then(cfg):
    runner = build_test_runner(cfg)
    evaluator = runner.cfg.test_evaluator
    for label in (2, 0):
        always_say(runner, label)
        clean = evaluate(runner, runner.cfg.test_dataloader, evaluator)
        other = evaluate(runner, shifted(runner.cfg), evaluator)
        assert clean == {'accuracy/top1': 100 * SPLITS['clean'][label] / 8}
        assert other == {'accuracy/top1': 100 * SPLITS['shifted'][label] / 8}


def test_a_dataloader_that_is_built_serves_several_calls(cfg):
    runner = build_test_runner(cfg)
    loader = runner.build_dataloader(shifted(cfg))
    for label in range(3):
        always_say(runner, label)
        metrics = evaluate(runner, loader, cfg.test_evaluator)
        assert metrics['accuracy/top1'] == 100 * SPLITS['shifted'][label] / 8


def test_the_log_has_the_results_of_one_data_set_alone(cfg):
    cfg.experiment_name += '-log'
    runner = build_test_runner(cfg)
    for prefix in ('first', 'second'):
        evaluator = dict(type='Accuracy', topk=(1,), prefix=prefix)
        evaluate(runner, cfg.test_dataloader, evaluator)
    (log,) = Path(cfg.work_dir).glob('*/*.log')
    lines = [line for line in log.read_text().splitlines() if '/top1' in line]
    assert ['first' in line for line in lines] == [True, False]
    assert ['second' in line for line in lines] == [False, True]


def test_several_evaluators(cfg):
    runner = build_test_runner(cfg)
    always_say(runner, 1)
    metrics = evaluate(
        runner,
        cfg.test_dataloader,
        [cfg.test_evaluator, dict(type='SingleLabelMetric', items=['recall'])],
    )
    assert metrics['accuracy/top1'] == 25
    assert metrics['single-label/recall'] == pytest.approx(100 / 3, abs=1e-3)


def test_nothing_is_loaded_or_resumed(cfg, tmp_path):
    cfg.load_from = str(tmp_path / 'missing.pth')
    cfg.resume = True
    runner = build_test_runner(cfg)
    always_say(runner, 0)
    metrics = evaluate(runner, cfg.test_dataloader, cfg.test_evaluator)
    assert metrics['accuracy/top1'] == 12.5


def test_the_metrics_are_those_of_the_runner_itself(cfg, tmp_path):
    runner = build_test_runner(copy.deepcopy(cfg))
    torch.manual_seed(0)
    for parameter in runner.model.parameters():
        torch.nn.init.normal_(parameter)
    ours = evaluate(runner, cfg.test_dataloader, cfg.test_evaluator)
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=runner.model.state_dict()), path)
    cfg.load_from = str(path)
    assert Runner.from_cfg(cfg).test() == ours


def test_weights_stay_as_they_were(cfg):
    runner = build_test_runner(cfg)
    before = copy.deepcopy(runner.model.state_dict())
    evaluate(runner, cfg.test_dataloader, cfg.test_evaluator)
    torch.testing.assert_close(
        dict(runner.model.state_dict()), dict(before), rtol=0, atol=0
    )
