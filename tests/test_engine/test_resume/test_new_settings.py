"""A run that goes on with new settings has the rates of a fresh one."""

import pytest
import torch
from mmengine.hooks import Hook

from mmclip.checkpoint import CheckpointError, read_checkpoint
from tests.test_engine.conftest import Linear, ScaledOptimWrapper
from tests.test_engine.schedule_runs import (
    ADAMW,
    LAYER_DECAY,
    SCHEDULES,
    Tower,
    train,
)


def test_a_longer_schedule_is_that_of_a_fresh_run(tmp_path):
    """The case of the report: two epochs, then four."""
    train(tmp_path, epochs=2)
    with pytest.raises(CheckpointError) as error:
        train(tmp_path, epochs=4, resume=True)
    assert 'param_scheduler.1.T_max was 3 and is 9' in str(error.value)
    assert '--resume-with-new-schedule' in str(error.value)
    found = train(tmp_path, epochs=4, resume=True, new_schedule=True).rates
    assert list(found) == [6, 7, 8, 9, 10, 11]
    wanted = [7.5e-4, 5.868e-4, 4.132e-4, 2.5e-4, 1.170e-4, 3.015e-5]
    rates = [groups[0]['lr'] for groups in found.values()]
    assert rates == pytest.approx(wanted, rel=1e-3)
    # What it has written goes on by itself.
    again = train(tmp_path, epochs=4, resume='work/epoch_3.pth').rates
    assert again == {i: found[i] for i in (9, 10, 11)}


@pytest.mark.parametrize(
    ('schedule', 'way'),
    [
        *((schedule, 'epoch_2.pth') for schedule in SCHEDULES),
        ('warm-up and cosine', 'iter_5.pth'),
        ('steps', 'iter_5.pth'),
    ],
)
def test_every_rate_is_that_of_a_fresh_run(tmp_path, schedule, way):
    """With another rate, decay and length, of each layer."""
    make = SCHEDULES[schedule]
    common = dict(
        model=Tower, by_epoch=way.startswith('epoch'), wrapper=LAYER_DECAY
    )
    other = dict(ADAMW, lr=3e-3, betas=(0.8, 0.99), weight_decay=0.3, eps=1e-6)
    train(tmp_path, 3, optimizer=other, schedule=make(3), **common)
    new = dict(epochs=6, schedule=make(6), **common)
    new['wrapper'] = LAYER_DECAY | dict(accumulative_counts=3)
    new['interval'] = 21  # no more checkpoints
    fresh = train(tmp_path, work_dir='fresh', **new).rates
    found = train(
        tmp_path, resume=f'work/{way}', new_schedule=True, **new
    ).rates
    start = 6 if way.startswith('epoch') else 5
    assert list(found) == list(range(start, 18))
    assert found == {i: fresh[i] for i in found}
    layers = 1 if schedule == 'one cycle' else 4  # of which it knows none
    assert len({group['lr'] for group in found[start]}) == layers


def test_every_rate_of_a_run_without_epochs(tmp_path):
    def new(iters, power):
        schedule = [
            dict(type='PolyLR', power=power, end=iters, by_epoch=False)
        ]
        return dict(
            iters=iters,
            schedule=schedule,
            sampler='mmclip.ResumableInfiniteSampler',
        )

    train(tmp_path, **new(6, 1.0))
    fresh = train(tmp_path, work_dir='fresh', **new(12, 2.0))
    resume = dict(resume='work/iter_4.pth', new_schedule=True)
    found = train(tmp_path, **resume, **new(12, 2.0))
    assert found.rates == {i: fresh.rates[i] for i in range(4, 12)}
    assert found.samples == {i: fresh.samples[i] for i in range(4, 12)}


@pytest.mark.parametrize('batch_size', [4, 5])
def test_no_image_of_an_epoch_is_left_out(tmp_path, batch_size):
    """Batches of four, then of five, as was reported: 30 images."""
    common = dict(epochs=3, images=30)
    train(tmp_path, batch_size=4, **common)
    resume = dict(resume='work/epoch_1.pth', batch_size=batch_size, **common)
    if batch_size != 4:
        with pytest.raises(CheckpointError, match='processes was 4 and is 5'):
            train(tmp_path, **resume)
    found = train(tmp_path, new_schedule=True, **resume)
    assert sorted(found.by_epoch[1]) == sorted(found.by_epoch[2])
    assert sorted(found.by_epoch[1]) == list(range(30))
    fresh = train(tmp_path, work_dir='fresh', batch_size=batch_size, **common)
    assert found.rates == {i: fresh.rates[i] for i in found.rates}
    assert found.samples == {i: fresh.samples[i] for i in found.rates}
    assert max(found.rates) == max(fresh.rates)


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        (dict(by_epoch=False), dict(batch_size=3)),
        (dict(by_epoch=False), dict(images=7)),
        (dict(by_epoch=False), dict(seed=1)),
        (
            dict(iters=12, sampler='mmclip.ResumableInfiniteSampler'),
            dict(
                iters=12,
                sampler='mmclip.ResumableInfiniteSampler',
                batch_size=3,
            ),
        ),
    ],
)
def test_the_middle_of_an_epoch_allows_no_other_data(tmp_path, old, new):
    settings = dict(schedule=[], new_schedule=True)
    train(tmp_path, **settings, **old)
    with pytest.raises(CheckpointError, match='only change between two epo'):
        train(tmp_path, resume='work/iter_4.pth', **settings, **new)


def test_a_checkpoint_without_schedules_is_not_resumed_at_their_start(
    tmp_path,
):
    fresh = train(tmp_path).rates
    path = tmp_path / 'work' / 'epoch_2.pth'
    checkpoint = read_checkpoint(path)
    del checkpoint['param_schedulers']
    torch.save(checkpoint, path)
    with pytest.raises(
        CheckpointError, match=r'number of schedules\) was 0 and is 2'
    ):
        train(tmp_path, resume='work/epoch_2.pth')
    found = train(tmp_path, resume='work/epoch_2.pth', new_schedule=True).rates
    assert found == {i: fresh[i] for i in range(6, 12)}


def test_the_settings_of_a_loss_scaler_are_not_overridden(tmp_path):
    def run(interval, **settings):
        model = Linear()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        wrapper = ScaledOptimWrapper(optimizer, growth_interval=interval)
        hook = Scaler()
        train(
            tmp_path,
            model=lambda: model,
            wrapper=wrapper,
            custom_hooks=(hook,),
            **settings,
        )

    class Scaler(Hook):
        def before_train(self, runner):
            intervals.append(
                runner.optim_wrapper.loss_scaler.get_growth_interval()
            )

    intervals: list[int] = []
    run(3, epochs=2, schedule=[])
    resume = dict(resume='work/epoch_1.pth', epochs=2, schedule=[])
    run(3, **resume)
    with pytest.raises(CheckpointError, match=r'growth_interval was 3 and is'):
        run(5, **resume)
    run(5, new_schedule=True, **resume)
    assert intervals == [3, 3, 5]


@pytest.mark.parametrize(
    ('start', 'epochs'),
    [('epoch_2.pth', 5), ('epoch_3.pth', 5), ('epoch_1.pth', 2)],
)
def test_a_schedule_as_long_as_the_run_grows_with_it(tmp_path, start, epochs):
    """mmengine ends a schedule without an end with the run."""
    settings = dict(
        schedule=[dict(type='MultiStepLR', milestones=[1, 2, 3, 4])]
    )
    train(tmp_path, epochs=3, **settings)
    fresh = train(tmp_path, epochs, work_dir='fresh', **settings).rates
    again = train(tmp_path, epochs, resume=f'work/{start}', **settings)
    assert again.rates == {i: fresh[i] for i in again.rates}
    settings['schedule'].append(dict(type='ReduceOnPlateauLR', monitor='x'))
    train(tmp_path, epochs=3, **settings)
    train(tmp_path, epochs, resume=f'work/{start}', **settings)
    path = tmp_path / 'work' / f'epoch_{epochs}.pth'
    ends = [s['end'] for s in read_checkpoint(path)['param_schedulers']]
    assert ends == [epochs, epochs]


def test_plateaus_cannot_be_foreseen(tmp_path):
    settings = dict(schedule=[dict(type='ReduceOnPlateauLR', monitor='x')])
    train(tmp_path, **settings)
    resume = dict(resume='work/epoch_2.pth', new_schedule=True, **settings)
    train(tmp_path, **resume)
    with pytest.raises(CheckpointError, match='validations'):
        train(tmp_path, optimizer=dict(ADAMW, lr=2e-3), **resume)
