"""Schedules and averages of the recipes, against the rules of their sources.

LightDXY/FT-CLIP: utils.py (cosine_scheduler), engine_for_finetuning.py;
mlfoundations/wise-ft: src/models/utils.py. The learning rates and the weight
decay of every parameter at the peak: test_layer_decay.py.
What else FT-CLIP's recipes hold: tests/test_ft_clip.py.
"""

import math

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from tests.ft_clip import NUM_IMAGES, SOURCES, every, load


def their_schedule(source, steps):
    """The learning rate of every optimizer step, written out again."""
    warmup = source.warmup_epochs * steps
    rest = source.epochs * steps - warmup
    floor = 1e-6
    falling = [
        floor + 0.5 * (source.lr - floor) * (1 + math.cos(math.pi * i / rest))
        for i in range(rest)
    ]
    return np.concatenate([np.linspace(0, source.lr, warmup), falling])


def our_schedule(cfg, iters_per_epoch, optimizer=None, epochs=None):
    """The learning rates (iterations, groups), by mmengine's schedulers."""
    if optimizer is None:
        optimizer = torch.optim.SGD(
            [nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr
        )
    schedulers = [
        PARAM_SCHEDULERS.build(
            dict(scheduler, optimizer=optimizer, epoch_length=iters_per_epoch)
        )
        for scheduler in cfg.param_scheduler
    ]
    found = []
    for _ in range((epochs or cfg.train_cfg.max_epochs) * iters_per_epoch):
        found.append([group['lr'] for group in optimizer.param_groups])
        for scheduler in schedulers:
            scheduler.step()
    return np.array(found)


@every
@pytest.mark.parametrize(
    'steps', [25, pytest.param(None, marks=pytest.mark.exhaustive)]
)
@pytest.mark.filterwarnings('ignore:Detected call of')
def test_the_learning_rate_of_every_step(name, steps):
    """In epochs of some steps, and of all: it is given in epochs."""
    source, cfg = SOURCES[name], load(name)
    assert cfg.optim_wrapper.accumulative_counts == source.update_freq
    steps = steps or source.steps
    ours = our_schedule(cfg, source.update_freq * steps)[:, 0]
    at_steps = ours[source.update_freq - 1 :: source.update_freq]
    theirs = their_schedule(source, steps)
    assert len(at_steps) == len(theirs)
    if source.update_freq == 1:
        np.testing.assert_allclose(at_steps, theirs, rtol=1e-6, atol=1e-15)
        return
    # mmengine counts the passes between steps too: never further off than
    # their own next step.
    following = np.append(theirs[1:], 1e-6)
    low, high = np.minimum(theirs, following), np.maximum(theirs, following)
    assert (at_steps >= low * (1 - 1e-6)).all()
    assert (at_steps <= high * (1 + 1e-6)).all()


@pytest.mark.filterwarnings('ignore:Detected call of')
def test_the_warm_up_has_the_mean_of_the_sources_log():
    """Epoch 0 of logs/CLIP_L14_336.log, 667 steps; from 1e-6 it is 6.08e-5."""
    cfg = load('clip-l-336')
    rates = our_schedule(cfg, 667, epochs=1)[:, 0]
    assert rates.mean() == pytest.approx(5.992801e-05, rel=1e-7)
    cfg.param_scheduler[0].start_factor = 1e-6 / cfg.lr
    rates = our_schedule(cfg, 667, epochs=1)[:, 0]
    assert rates.mean() != pytest.approx(5.992801e-05, rel=1e-2)


@every
@pytest.mark.filterwarnings('ignore:Detected call of')
def test_the_learning_rate_of_every_layer(name):
    """In every iteration theirs times the layer's scale, floors too."""
    source, cfg = SOURCES[name], load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    scales = [group['lr_scale'] for group in optimizer.param_groups]
    layers = range(source.depth + 2)
    powers = [source.layer_decay**i for i in layers]
    assert sorted(set(scales)) == pytest.approx(sorted(powers))
    iters = 5  # an epoch: the schedule is given in epochs
    ours = our_schedule(cfg, iters, optimizer)
    theirs = their_schedule(source, iters)
    np.testing.assert_allclose(
        ours, np.outer(theirs, scales), rtol=1e-6, atol=1e-15
    )


@pytest.mark.parametrize(
    ('name', 'lr', 'max_norm'),
    [
        ('clip-l-336_wise-ft_in1k', 3e-5, 1.0),
        ('clip-b16-224_flyp_in1k', 1e-5, None),
    ],
)
@pytest.mark.filterwarnings('ignore:Detected call of')
def test_the_schedule_of_wise_ft_and_flyp(name, lr, max_norm):
    """cosine_lr of src/models/utils.py in mlfoundations/wise-ft."""
    cfg = load(name)
    steps = math.ceil(NUM_IMAGES / 512)
    ours = our_schedule(cfg, steps)[:, 0]
    warmup, rest = 500, 10 * steps - 500
    falling = 0.5 * (1 + np.cos(np.pi * np.arange(rest) / rest))
    theirs = lr * np.concatenate([np.arange(1, warmup + 1) / warmup, falling])
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.1
    clip = cfg.optim_wrapper.get('clip_grad') or {}
    assert clip.get('max_norm') == max_norm
    (crop,) = (t for t in cfg.train_pipeline if t.type == 'RandomResizedCrop')
    assert crop.crop_ratio_range == (0.9, 1.0)


class RecordSteps(Hook):
    """The weight and its average after each optimizer step."""

    priority = 'LOWEST'

    def __init__(self, ema_hook, update_freq):
        self.ema_hook, self.update_freq = ema_hook, update_freq
        self.weights, self.averages = [], []

    def after_train_iter(self, runner, *args, **kwargs):
        if self.every_n_train_iters(runner, self.update_freq):
            average = self.ema_hook.ema_model.module
            self.weights.append(runner.model.weight.item())
            self.averages.append(average.weight.item())


class Slope(nn.Module):
    """The gradient of its weight is 1, whatever the data."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def train_step(self, data, optim_wrapper):
        optim_wrapper.update_params(self.weight)
        return {}


@every
def test_the_average_of_weights(name, tmp_path):
    """Theirs begins with the weights before the first step."""
    source, cfg = SOURCES[name], load(name)
    hook = HOOKS.build(cfg.custom_hooks[0])
    record = RecordSteps(hook, source.update_freq)
    steps = 6
    Runner(
        Slope(),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(range(source.update_freq * steps)),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=1.0),
            accumulative_counts=cfg.optim_wrapper.accumulative_counts,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        default_hooks=dict(logger=None, checkpoint=None),
        custom_hooks=[hook, record],
        experiment_name=tmp_path.name,
    ).train()
    assert record.weights == pytest.approx([-i for i in range(1, steps + 1)])
    wanted = record.weights[:1]
    for weight in record.weights[1:]:
        wanted.append(0.9998 * wanted[-1] + (1 - 0.9998) * weight)
    assert record.averages == pytest.approx(wanted, rel=1e-9)
