"""A schedule that does not fit its run is said, with what would."""

import logging
import re

import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn

from mmclip.engine.checks.check_schedule_hook import CheckScheduleHook
from mmclip.engine.config.load import load_config
from tests.conftest import REPOSITORY
from tests.ft_clip import load

CONFIGS = REPOSITORY / 'configs' / 'clip'
RECIPES = [
    path.stem
    for path in sorted(CONFIGS.glob('*.py'))
    if load_config(path).get('train_cfg')
]


class Schedules(Runner):
    """A runner that has a config's loop and schedules, without its data."""

    def __init__(self, cfg: Config, steps: int):
        self.cfg = cfg
        loop, length = EpochBasedTrainLoop, cfg.train_cfg.get('max_epochs', 1)
        if not cfg.train_cfg.get('by_epoch', True):
            loop = IterBasedTrainLoop
        self._train_loop = object.__new__(loop)
        self._train_loop.dataloader = range(steps)
        self._train_loop._max_epochs = length
        self._train_loop._max_iters = cfg.train_cfg.get(
            'max_iters', length * steps
        )
        self.logger = logging.getLogger(__name__)
        self.optimizer = torch.optim.SGD(
            [nn.Parameter(torch.zeros(1))], lr=1.0
        )
        self.param_schedulers = self._build_param_scheduler(
            cfg.param_scheduler, self.optimizer
        )

    def rates(self):
        steps = len(self.train_dataloader)
        for i in range(1, self.max_iters + 1):
            yield self.optimizer.param_groups[0]['lr']
            for scheduler in self.param_schedulers:
                if not scheduler.by_epoch or i % steps == 0:
                    scheduler.step()


@pytest.fixture
def said(caplog):
    """What the hook says of a config, with epochs of so many steps."""

    def _said(cfg, steps=10):
        caplog.clear()
        CheckScheduleHook().before_train(Schedules(cfg, steps))
        return ''.join(caplog.messages)

    return _said


@pytest.mark.parametrize('name', RECIPES)
def test_the_recipes_fit(said, name):
    # WiSE-FT's and FLYP's count the iterations of ImageNet.
    assert said(load(name), steps=2503) == ''


@pytest.mark.filterwarnings('ignore:Detected call of')
@pytest.mark.parametrize(
    ('name', 'misfit'),
    [
        ('clip-l-336', r'1 \(CosineAnnealingLR\) begins after epoch 5, when'),
        ('clip-l-336_lora_in1k', 'begins after epoch 5'),
        ('clip-l-336_lp-ft_in1k', r'0 \(CosineAnnealingLR\) is cut off: it'),
        ('clip-l-336_wise-ft_in1k', 'it lasts until the end of epoch 10'),
        ('clip-b16-224', r'LinearLR\) is cut off: it lasts until .* epoch 10'),
    ],
)
def test_a_shorter_run_says_what_would_fit(said, name, misfit):
    """And what it says fits: the rate rises and falls to its end."""
    steps = 2503
    shorter = {'train_cfg.max_epochs': 5}
    path = CONFIGS / f'{name}.py'
    message = said(load_config(path, shorter), steps)
    assert re.search(misfit, message)
    proposed = re.search(r'In proportion: --cfg-options (.+)$', message)[1]
    options = dict(option.split('=') for option in proposed.split())
    options = {k: DictAction._parse_iterable(v) for k, v in options.items()}
    cfg = load_config(path, shorter | options)
    assert said(cfg, steps) == ''
    rates = list(Schedules(cfg, steps).rates())
    assert max(rates) == pytest.approx(1)
    assert rates[-1] < 0.1


@pytest.mark.parametrize(
    ('schedule', 'wanted'),
    [
        (dict(type='CosineAnnealingLR', T_max=5), ''),
        (dict(type='CosineAnnealingLR'), ''),
        (dict(type='MultiStepLR', milestones=[2, 4]), ''),
        (dict(type='LinearLR', end=2), ''),  # a warm-up alone
        (dict(type='ReduceOnPlateauLR'), ''),
        (
            [
                dict(type='CosineAnnealingLR', end=3),
                dict(type='LinearLR', end_factor=0.1, begin=3),
            ],
            '',
        ),
        (
            dict(type='MultiStepLR', milestones=[3, 8]),
            'it lasts until the end of epoch 8',
        ),
        (
            dict(type='CosineAnnealingLR', end=3),
            'over after epoch 3, before the run is. In proportion: '
            '--cfg-options param_scheduler.end=5',
        ),
        (
            dict(type='CosineAnnealingLR', T_max=3),
            'before the run is, and the rate rises again. In proportion',
        ),
        (
            dict(type='PolyLR', end=45, by_epoch=False),
            'over after iteration 45, before the run is. In proportion: '
            '--cfg-options param_scheduler.end=50',
        ),
        (
            dict(type='OneCycleLR', total_steps=70, by_epoch=False),
            'lasts until the end of epoch 7',
        ),
    ],
)
def test_schedules_that_fit_five_epochs_and_do_not(said, schedule, wanted):
    message = said(
        Config(dict(train_cfg=dict(max_epochs=5), param_scheduler=schedule))
    )
    assert wanted in message and bool(wanted) == bool(message)


def test_a_loop_without_epochs(said):
    cfg = load('clip-demo-digits')
    cfg.train_cfg.max_iters = 100
    message = said(cfg)
    assert 'is cut off: it lasts until the end of iteration 200' in message
    assert 'param_scheduler.1.begin=10 param_scheduler.1.end=100' in message
