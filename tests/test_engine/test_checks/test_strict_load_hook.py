"""Weights fit, averaged ones too, or the run stops."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseTTAModel
from mmengine.registry import HOOKS

from mmclip.checkpoint import CheckpointError, read_checkpoint
from mmclip.engine import StrictLoadHook
from tests.test_engine.conftest import Linear

HOOK = dict(strict_load=dict(type='mmclip.StrictLoadHook'))
EMA = [dict(type='EMAHook', momentum=0.1)]
BIAS = dict(state_dict='layer.bias', ema_state_dict='module.layer.bias')


def change(path, part, key, value=None):
    checkpoint = read_checkpoint(path)
    checkpoint[part].pop(key)
    if value is not None:
        checkpoint[part][key] = value
    torch.save(checkpoint, path)


@pytest.mark.parametrize('value', [None, torch.zeros(2, 2)])
def test_weights_that_are_missing_or_misshapen(train, tmp_path, value):
    train(epochs=1)
    path = tmp_path / 'work' / 'epoch_1.pth'
    change(path, 'state_dict', 'layer.weight', value)
    train(load_from=str(path), work_dir='warned')  # what mmengine does
    with pytest.raises(CheckpointError, match=r'layer\.weight'):
        train(load_from=str(path), **HOOK)


@pytest.mark.parametrize(
    'weights', [None, [1], {3: torch.zeros(1)}, {'layer.weight': 'x'}]
)
def test_weights_of_wrong_types(train, tmp_path, weights):
    torch.save(dict(state_dict=weights), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=r'x\.pth has no state dict'):
        train(load_from=str(tmp_path / 'x.pth'), **HOOK)


def test_weights_of_data_parallel_training_fit(train, tmp_path):
    weights = {f'module.{k}': v for k, v in Linear().state_dict().items()}
    torch.save(weights, tmp_path / 'ddp.pth')
    train(epochs=1, load_from=str(tmp_path / 'ddp.pth'), **HOOK)


def test_averaged_weights_that_are_missing(train, tmp_path):
    train(epochs=1, custom_hooks=EMA)
    path = tmp_path / 'work' / 'epoch_1.pth'
    change(path, 'ema_state_dict', 'module.layer.bias')
    with pytest.raises(RuntimeError, match=r'layer\.bias'):
        train(resume=True, custom_hooks=EMA, **HOOK)


@pytest.mark.parametrize('part', BIAS)
def test_both_kinds_of_weights_have_shapes(train, tmp_path, part):
    train(epochs=1, custom_hooks=EMA)
    path = tmp_path / 'work' / 'epoch_1.pth'
    change(path, part, BIAS[part], torch.zeros(7))
    with pytest.raises(
        CheckpointError, match=r'size mismatch for layer\.bias'
    ):
        train(resume=True, custom_hooks=EMA, **HOOK)


@pytest.mark.parametrize('part', BIAS)
@pytest.mark.parametrize('resume', [False, True])
def test_weights_that_are_not_finite(train, tmp_path, part, resume):
    train(epochs=1, custom_hooks=EMA)
    path = tmp_path / 'work' / 'epoch_1.pth'
    change(path, part, BIAS[part], torch.full((1,), torch.nan))
    start = dict(resume=True) if resume else dict(load_from=str(path))
    if resume or part == 'state_dict':
        with pytest.raises(CheckpointError, match='NaN or infinite values'):
            train(custom_hooks=EMA, **start, **HOOK)
    else:  # of load_from only the other weights are taken
        train(custom_hooks=EMA, **start, **HOOK)


def test_weights_alone_are_too_little_for_averages(train, tmp_path):
    path = str(tmp_path / 'weights.pth')
    torch.save(Linear().state_dict(), path)
    train(epochs=1, load_from=path, **HOOK)
    with pytest.raises(CheckpointError, match='has no state_dict, which EMA'):
        train(epochs=1, load_from=path, custom_hooks=EMA, **HOOK)


@pytest.mark.parametrize('before', [None, EMA])
def test_averages_come_and_go_only_with_a_new_start(train, tmp_path, before):
    after = EMA if before is None else None
    train(epochs=1, custom_hooks=before)
    with pytest.raises(CheckpointError, match='averaged weights'):
        train(resume=True, custom_hooks=after, **HOOK)
    path = str(tmp_path / 'work' / 'epoch_1.pth')
    train(load_from=path, work_dir='new', custom_hooks=after, **HOOK)


def test_averages_of_a_model_for_augmentation_are_refused():
    """mmengine would test the weights that it began with."""

    class Average(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            raise NotImplementedError

    runner = SimpleNamespace(
        model=Average(module=Linear()), hooks=[HOOKS.build(EMA[0])]
    )
    with pytest.raises(ValueError, match='EMAHook finds no averages'):
        StrictLoadHook().before_run(runner)
