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


def test_averaged_weights_that_are_missing(train, tmp_path):
    train(epochs=1, custom_hooks=EMA)
    path = tmp_path / 'work' / 'epoch_1.pth'
    change(path, 'ema_state_dict', 'module.layer.bias')
    with pytest.raises(RuntimeError, match=r'layer\.bias'):
        train(resume=True, custom_hooks=EMA, **HOOK)


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
    runner = SimpleNamespace(
        model=Average(module=Linear()),
        hooks=[HOOKS.build(EMA[0])],
    )
    with pytest.raises(ValueError, match='EMAHook finds no averages'):
        StrictLoadHook().before_run(runner)


class Average(BaseTTAModel):
    """The mean of what several views give."""

    def merge_preds(self, data_samples_list):
        return [sum(views) / len(views) for views in data_samples_list]
