"""A run that is resumed with other settings stops, and no other does."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from mmclip.checkpoint import CheckpointError, read_checkpoint
from mmclip.engine.distributed.fully_shard import StrategyRunner
from tests.test_engine.schedule_runs import (
    ADAMW,
    LAYER_DECAY,
    SCHEDULES,
    Tower,
    cosine,
    train,
)

EMA = dict(type='EMAHook', momentum=0.1)
MODEL = dict(
    type='Any',
    backbone=dict(drop_path_rate=0.1, init_cfg=dict(checkpoint='a.pth')),
    test_cfg=dict(mode='whole'),
)
PIPELINE = [dict(type='Load', file='here/a.txt'), dict(type='Flip', prob=0.5)]
CONFIG = dict(
    model=MODEL,
    data_preprocessor=dict(mean=[127.5], std=[64.0]),  # of a model without
    train_dataloader=dict(dataset=dict(pipeline=PIPELINE)),
    optim_wrapper=dict(paramwise_cfg=dict(layer_decay_rate=0.65)),
)
SETTINGS = dict(
    wrapper=dict(clip_grad=dict(max_norm=1.0), accumulative_counts=3),
    custom_hooks=(EMA,),
    config=CONFIG,
)


def replaced(value, path, new):
    """A copy with another leaf."""
    value = copy.deepcopy(value)
    part = value
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = new
    return value


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> Path:
    """A run of all settings, with its checkpoints."""
    folder = tmp_path_factory.mktemp('finished')
    train(folder, **SETTINGS)
    return folder


WRAPPER, LOADER = SETTINGS['wrapper'], ('train_dataloader', 'dataset')
OTHERS = {
    'optim_wrapper.optimizer.lr was 0.001 and is 0.002': dict(
        optimizer=dict(ADAMW, lr=2e-3)
    ),
    'optim_wrapper.optimizer.betas was [0.9, 0.999] and is [0.9, 0.98]': dict(
        optimizer=dict(ADAMW, betas=(0.9, 0.98))
    ),
    "optim_wrapper.optimizer.type was 'AdamW' and is 'SGD'": dict(
        optimizer=dict(type='SGD', lr=1e-3)
    ),
    'optim_wrapper (parameters in each group) was [2] and is [1, 1]': dict(
        wrapper=dict(
            WRAPPER, paramwise_cfg=dict(custom_keys=dict(bias=dict(lr_mult=2)))
        )
    ),
    'optim_wrapper.accumulative_counts was 3 and is 1': dict(
        wrapper=dict(WRAPPER, accumulative_counts=1)
    ),
    'optim_wrapper.clip_grad.max_norm was 1.0 and is 2.0': dict(
        wrapper=dict(WRAPPER, clip_grad=dict(max_norm=2.0))
    ),
    "optim_wrapper.type was 'OptimWrapper' and is 'BFloat16Optim": dict(
        wrapper=dict(WRAPPER, type='mmclip.BFloat16OptimWrapper')
    ),
    "param_scheduler.1.type was 'CosineAnnealingLR' and is 'PolyLR'": dict(
        schedule=[cosine(4)[0], dict(type='PolyLR', end=4)]
    ),
    'param_scheduler (number of schedules) was 2 and is 1': dict(
        schedule=cosine(4)[:1]
    ),
    'param_scheduler.0.start_factor was 0.01 and is 0.1': dict(
        schedule=[dict(cosine(4)[0], start_factor=0.1), cosine(4)[1]]
    ),
    'EMAHook.momentum was 0.1 and is 0.2': dict(
        custom_hooks=(dict(EMA, momentum=0.2),)
    ),
    'train_dataloader.batch_size x processes was 2 and is 3': dict(
        batch_size=3
    ),
    'train_dataloader.dataset (images) was 6 and is 5': dict(images=5),
    'train_dataloader.sampler.shuffle was True and is False': dict(
        shuffle=False
    ),
    "train_dataloader.sampler.type was 'ResumableSampler' and is": dict(
        sampler='DefaultSampler'
    ),
    'randomness.seed was 0 and is 1': dict(seed=1),
    "train_cfg.type was 'EpochBasedTrainLoop' and is 'IterBased": dict(
        iters=12
    ),
    'model.backbone.drop_path_rate was 0.1 and is 0.2': dict(
        config=replaced(CONFIG, ('model', 'backbone', 'drop_path_rate'), 0.2)
    ),
    'paramwise_cfg.layer_decay_rate was 0.65 and is 0.75': dict(
        config=replaced(
            CONFIG,
            ('optim_wrapper', 'paramwise_cfg', 'layer_decay_rate'),
            0.75,
        )
    ),
    'data_preprocessor.mean was [127.5] and is [0.0]': dict(
        config=replaced(CONFIG, ('data_preprocessor', 'mean'), [0.0])
    ),
    'pipeline.1.prob was 0.5 and is 0.4': dict(
        config=replaced(CONFIG, (*LOADER, 'pipeline', 1, 'prob'), 0.4)
    ),
}


@pytest.mark.parametrize('said', OTHERS)
def test_other_settings_are_refused_by_name_and_value(finished, said):
    with pytest.raises(CheckpointError) as error:
        train(finished, resume='work/epoch_2.pth', **SETTINGS | OTHERS[said])
    assert said in str(error.value)


def moved(config):
    config = replaced(config, ('model', 'test_cfg', 'mode'), 'slide')
    config = replaced(
        config, ('model', 'backbone', 'init_cfg', 'checkpoint'), 'b.pth'
    )
    load = dict(file='there/a.txt', on_error='skip', backend_args=dict(x=1))
    return replaced(config, (*LOADER, 'pipeline', 0), dict(type='Load') | load)


@pytest.mark.parametrize(
    'others',
    [
        dict(),
        dict(new_schedule=True),  # asked for, and nothing is new
        dict(workers=1, work_dir='elsewhere', config=moved(CONFIG)),
    ],
)
def test_the_same_settings_go_on_without_a_word(finished, others):
    whole = train(finished, work_dir='whole', **SETTINGS)
    again = train(finished, resume='work/epoch_2.pth', **SETTINGS | others)
    assert again.rates == {i: whole.rates[i] for i in range(6, 12)}
    assert again.samples == {i: whole.samples[i] for i in range(6, 12)}


@pytest.mark.parametrize(
    ('schedule', 'make_runner'),
    [
        *((schedule, Runner) for schedule in SCHEDULES),
        ('warm-up and cosine', StrategyRunner),
    ],
)
def test_no_schedule_is_mistaken_for_another(tmp_path, schedule, make_runner):
    def make(*args, **settings):
        if make_runner is StrategyRunner:
            settings['strategy'] = dict(type='SingleDeviceStrategy')
        return make_runner(*args, **settings)

    settings = dict(schedule=SCHEDULES[schedule](3), make_runner=make)
    whole = train(tmp_path, epochs=3, **settings).rates
    again = train(tmp_path, epochs=3, resume='work/epoch_2.pth', **settings)
    assert again.rates == {i: whole[i] for i in range(6, 9)}
    settings['optimizer'] = dict(ADAMW, weight_decay=0.1)
    new = train(
        tmp_path,
        epochs=3,
        resume='work/epoch_2.pth',
        new_schedule=True,
        **settings,
    ).rates
    decayed = schedule == 'decay and momentum'
    assert list(new) == [6, 7, 8]
    for i in new:
        (group,), (old,) = new[i], whole[i]
        assert group['weight_decay'] == pytest.approx(2 * old['weight_decay'])
        assert group | dict(weight_decay=0) == old | dict(weight_decay=0)
    assert decayed or new[6][0]['weight_decay'] == 0.1


def test_functions_and_milestones_of_schedules_are_compared(tmp_path):
    """The first are not in a checkpoint, the others in another form."""
    cycle, steps = (
        dict(type='OneCycleLR', eta_max=0.1, total_steps=3),
        dict(type='MultiStepLR', milestones=[1, 2]),
    )
    train(tmp_path, epochs=3, schedule=[cycle, steps])
    others = [
        dict(cycle, anneal_strategy='linear'),
        dict(steps, milestones=[1, 3]),
    ]
    with pytest.raises(CheckpointError) as error:
        train(tmp_path, epochs=3, resume='work/epoch_1.pth', schedule=others)
    assert "0.anneal_func was '_annealing_cos' and is" in str(error.value)
    assert '1.milestones was [1, 2] and is [1, 3]' in str(error.value)


def test_what_does_not_fit_the_state_is_never_applied(finished):
    for others in (
        dict(optimizer=dict(type='SGD', lr=1e-3)),
        dict(model=Tower),
        dict(iters=12),
    ):
        with pytest.raises(
            CheckpointError, match='cannot change in a resumed run'
        ):
            train(
                finished,
                resume='work/epoch_2.pth',
                new_schedule=True,
                **SETTINGS | others,
            )


def forget(path: Path) -> None:
    """Make it a checkpoint of a version without the note."""
    checkpoint = read_checkpoint(path)
    del checkpoint['meta']['settings']
    torch.save(checkpoint, path)


def test_checkpoints_without_the_note_are_compared_by_their_state(tmp_path):
    train(tmp_path, model=Tower, wrapper=LAYER_DECAY)
    path = tmp_path / 'work' / 'epoch_2.pth'
    forget(path)
    common = dict(model=Tower, resume='work/epoch_2.pth', wrapper=LAYER_DECAY)
    for said, others in {
        r'optimizer\.lr \(parameter group \d\) was 0.000274\d+ and is': dict(
            optimizer=dict(ADAMW, lr=2e-3)
        ),
        r'betas \(parameter group \d\) was \[0.9, 0.999\] and': dict(
            optimizer=dict(ADAMW, betas=(0.9, 0.98))
        ),
        r'iterations per epoch\) was 3 and is 6': dict(batch_size=1),
        r'param_scheduler\.1\.T_max was 9 and is 12': dict(schedule=cosine(5)),
        r'param_scheduler\.1\.power was not set and is 1': dict(
            schedule=[cosine(4)[0], dict(type='PolyLR', begin=1, end=4)]
        ),
    }.items():
        with pytest.raises(CheckpointError, match=said):
            train(tmp_path, **common | others)
    assert list(train(tmp_path, **common).rates) == list(range(6, 12))


@pytest.mark.parametrize(
    'change',
    [
        lambda checkpoint: checkpoint['meta'].update(settings=[1]),
        lambda checkpoint: checkpoint['meta'].update(epoch='2'),
        lambda checkpoint: checkpoint['meta']['settings'].update(data=1),
        lambda checkpoint: checkpoint['optimizer'].update(param_groups=3),
        lambda checkpoint: checkpoint['optimizer'].update(param_groups=[3]),
        lambda checkpoint: checkpoint['optimizer'].update(state=[3]),
        lambda checkpoint: checkpoint['optimizer']['state'].update({0: 3}),
        lambda checkpoint: checkpoint.update(param_schedulers=dict(a=1)),
        lambda checkpoint: checkpoint.update(param_schedulers=[1, 2]),
        lambda checkpoint: checkpoint['meta']['settings'].update(
            sampler_seed='x'
        ),
    ],
)
def test_other_kinds_of_notes_and_states_are_refused(
    finished, tmp_path, change
):
    checkpoint = read_checkpoint(finished / 'work' / 'epoch_2.pth')
    change(checkpoint)
    torch.save(checkpoint, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='The checkpoint cannot be resu'):
        train(tmp_path, resume='x.pth', **SETTINGS)


@pytest.mark.parametrize('value', [torch.zeros(1), torch.zeros(99), 0.5])
def test_averages_of_another_shape_are_refused(finished, tmp_path, value):
    # A fused step would use the memory beside them.
    checkpoint = read_checkpoint(finished / 'work' / 'epoch_2.pth')
    checkpoint['optimizer']['state'][0]['exp_avg'] = value
    torch.save(checkpoint, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=r'exp_avg of .* has shape'):
        train(tmp_path, resume='x.pth', **SETTINGS)


@pytest.mark.parametrize('value', [torch.zeros(0), {1: 2}, b'x', [None]])
def test_a_noted_value_of_another_type_is_another_value(
    finished, tmp_path, value
):
    checkpoint = read_checkpoint(finished / 'work' / 'epoch_2.pth')
    key = 'model.backbone.drop_path_rate'
    checkpoint['meta']['settings']['model'][key] = value
    torch.save(checkpoint, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=rf'{key} was'):
        train(tmp_path, resume='x.pth', **SETTINGS)
