"""A run that ends in validation loses nothing of it."""

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmclip.checkpoint import read_checkpoint

SCORES = [0.1, 0.9, 0.5, 0.4]
SETTINGS = dict(
    epochs=4,
    scores=SCORES,
    checkpoint=dict(save_best='score', rule='greater'),
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


def test_with_the_hook_of_mmengine_it_is_lost(train, tmp_path):
    settings = SETTINGS | dict(
        checkpoint=SETTINGS['checkpoint'] | dict(type='CheckpointHook')
    )
    with pytest.raises(PowerCutError):
        train(**settings, custom_hooks=[dict(type='PowerCut', validating=4)])
    train(resume=True, **settings)
    assert best(tmp_path / 'work')[1] == 0.5


@pytest.mark.parametrize(('epoch', 'is_made_again'), [(2, False), (3, True)])
def test_each_epoch_is_validated_once_in_the_history(
    train, capfd, epoch, is_made_again
):
    """The checkpoint of the best epoch is written again after validation."""
    cut(train, training=2 * epoch)
    capfd.readouterr()
    runner = train(resume=True, **SETTINGS)
    log = ''.join(capfd.readouterr())
    assert 'validated: ' not in log  # beside the metrics
    assert (f'Validate iteration {2 * epoch}:' in log) == is_made_again
    history, _ = runner.message_hub.get_scalar('val/score').data
    assert history.tolist() == SCORES
