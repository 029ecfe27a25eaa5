"""Steps of several passes: where epochs end, and checkpoints are written."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmclip.checkpoint import read_checkpoint
from tests.test_engine.conftest import Linear, ScaledOptimWrapper

# Of eight images, one a pass.
WHOLE = dict(type='mmclip.ResumableSampler', images_per_step=3, shuffle=True)
THREE = dict(batch_size=1, accumulate=3, sampler=WHOLE)
BY_ITERATION = dict(iters=12, sampler='InfiniteSampler', accumulate=3)
FOURTH = dict(val_interval=4)


class CountSteps(Hook):
    """At which iterations an optimizer step was taken."""

    def __init__(self):
        self.steps, self._before = [], None

    def before_train(self, runner):
        self._before = runner.model.layer.weight.clone()

    def after_train_iter(self, runner, *_, **__):
        weight = runner.model.layer.weight.clone()
        if not torch.equal(weight, self._before):
            self.steps.append(runner.iter + 1)
        self._before = weight


def test_epochs_end_with_a_step(train, capfd):
    count = CountSteps()
    runner = train(**THREE, custom_hooks=[count])
    assert runner.iter == 18  # three epochs
    assert count.steps == [3, 6, 9, 12, 15, 18]
    log = 'An epoch has 2 optimizer steps of 3 images; 2 of 8 are left for'
    assert log in capfd.readouterr().out


def scaled(model, scale=1024.0):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    return ScaledOptimWrapper(optimizer, 3, init_scale=scale)


@pytest.mark.parametrize('is_scaled', [False, True])
def test_a_resumed_run_takes_the_same_steps(train, tmp_path, is_scaled):
    def run(scale, **settings):
        torch.manual_seed(0)
        model = Linear()
        wrapper = dict(optim_wrapper=scaled(model, scale)) if is_scaled else {}
        return train(
            model=model,
            exact=dict(type='mmclip.ExactResumeHook'),
            **THREE | wrapper | settings,
        ).model.layer.weight

    wanted = run(1024.0)
    path = tmp_path / 'work' / 'epoch_2.pth'
    assert 'gradients' not in ' '.join(read_checkpoint(path))
    # The checkpoint has the right scale.
    again = run(2.0, resume=True, load_from=str(path), work_dir='resumed')
    assert torch.equal(again, wanted)


def test_a_sampler_that_knows_nothing_of_steps_is_refused(train):
    sampler = dict(type='mmclip.ResumableSampler', shuffle=True)
    with pytest.raises(
        ValueError, match=r'8 iterations.*sampler\.images_per_step=3'
    ):
        train(**THREE | dict(sampler=sampler))
    assert train(**THREE | dict(accumulate=2, sampler=sampler)).iter == 24


def test_another_sampler_is_warned_of(train, tmp_path, capfd):
    """The run goes on; its checkpoints lack gradients, as mmengine's do."""
    count = CountSteps()
    train(**THREE | dict(sampler='DefaultSampler'), custom_hooks=[count])
    assert count.steps == [3, 6, 9, 12, 15, 18, 21, 24]
    warning = 'resumed at the end of an epoch loses the gradients'
    assert warning in capfd.readouterr().out
    assert (tmp_path / 'work' / 'epoch_1.pth').exists()


@pytest.mark.parametrize('option', ['interval', 'save_begin'])
def test_no_checkpoint_is_planned_within_a_step(train, option):
    checkpoint = dict(by_epoch=False, interval=3, save_begin=3)
    assert train(**BY_ITERATION, checkpoint=checkpoint).iter == 12
    with pytest.raises(ValueError, match=f'{option}=4 .* a multiple of 3'):
        train(**BY_ITERATION, checkpoint=checkpoint | {option: 4})


def test_no_checkpoint_is_written_within_a_step_for_a_best_score(
    train, tmp_path
):
    """Of validations at the fourth, eighth and twelfth pass."""

    def every_fourth(*args, train_cfg, **kwargs):
        return Runner(*args, train_cfg=train_cfg | FOURTH, **kwargs)

    checkpoint = dict(by_epoch=False, interval=3, max_keep_ckpts=-1)
    checkpoint |= dict(save_best='score', rule='greater')
    train(
        **BY_ITERATION,
        checkpoint=checkpoint,
        scores=[1, 2, 3, 4, 5, 0],
        make_runner=every_fourth,
    )
    names = {path.name for path in (tmp_path / 'work').glob('*.pth')}
    steps = {f'iter_{i}.pth' for i in (3, 6, 9, 12)}
    assert names == steps | {'best_score_iter_8.pth'}
