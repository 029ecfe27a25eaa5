"""A run that ends in validation loses nothing of it."""

import shutil

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmclip.checkpoint import read_checkpoint

SCORES = [0.1, 0.9, 0.5, 0.4]
HOOK = dict(unfinished=dict(type='mmclip.UnfinishedValidationHook'))
SETTINGS = dict(
    epochs=4,
    scores=SCORES,
    checkpoint=dict(save_best='score', rule='greater'),
    **HOOK,
)


class PowerCutError(Exception):
    """Nothing that anybody catches."""


@HOOKS.register_module()
class PowerCut(Hook):
    """The end, before an iteration of training or of validation."""

    priority = 'VERY_LOW'

    def __init__(self, validating=None, training=None):
        self.validating, self.training = validating, training

    def before_val_iter(self, runner, *_, **__):
        if runner.iter == self.validating:
            raise PowerCutError

    def before_train_iter(self, runner, *_, **__):
        if runner.iter == self.training:
            raise PowerCutError


def cut(train, work_dir='work', **when):
    """A run, or what is left of it, up to the cut."""
    hooks = [dict(type='PowerCut', **when)]
    with pytest.raises(PowerCutError):
        train(resume=True, work_dir=work_dir, custom_hooks=hooks, **SETTINGS)


def best(folder):
    names = sorted(path.name for path in folder.glob('best_*'))
    final = read_checkpoint(folder / 'epoch_4.pth')['message_hub']
    return names, final['runtime_info']['best_score']


def test_the_best_is_found_however_often_a_run_ends(train, tmp_path):
    cut(train, validating=4)  # the best epoch's
    cut(train, training=5)
    cut(train, validating=8)
    train(resume=True, **SETTINGS)
    assert best(tmp_path / 'work') == (['best_score_epoch_2.pth'], 0.9)


def test_without_the_hook_it_is_lost(train, tmp_path):
    settings = {k: v for k, v in SETTINGS.items() if k not in HOOK}
    with pytest.raises(PowerCutError):
        train(**settings, custom_hooks=[dict(type='PowerCut', validating=4)])
    train(resume=True, **settings)
    assert best(tmp_path / 'work') == (['best_score_epoch_3.pth'], 0.5)


def test_what_was_validated_is_not_validated_again(train, capfd):
    cut(train, training=4)
    capfd.readouterr()
    train(resume=True, **SETTINGS)
    assert 'Validate iteration' not in ''.join(capfd.readouterr())


def test_the_note_of_another_run_does_not_count(train, tmp_path):
    train(**SETTINGS | dict(epochs=2, work_dir='earlier'))
    cut(train, validating=4, work_dir='cut')
    (tmp_path / 'work').mkdir()
    shutil.copy(tmp_path / 'earlier' / 'last_validation', tmp_path / 'work')
    start = str(tmp_path / 'cut' / 'epoch_2.pth')
    train(resume=True, load_from=start, **SETTINGS)
    assert best(tmp_path / 'work') == (['best_score_epoch_2.pth'], 0.9)
