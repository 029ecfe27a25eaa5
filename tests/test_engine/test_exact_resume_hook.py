"""A resumed run trains with what its config says, or does not start."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmclip.checkpoint import CheckpointError, read_checkpoint
from mmclip.engine.fully_shard import StrategyRunner
from mmclip.models import CLIPVisionTransformer
from tests.test_engine.conftest import Linear, Numbers, ScaledOptimWrapper

HYPERPARAMETERS = ('lr', 'momentum', 'weight_decay', 'betas', 'eps')
_names = itertools.count()


class Images(Numbers):
    """A number of samples, the i-th with the value i."""

    def __init__(self, number: int):
        self.number = number

    def __len__(self) -> int:
        return self.number


class Tower(Linear):
    """The same model, with a backbone whose layers have rates of their own."""

    def __init__(self):
        super().__init__()
        self.backbone = CLIPVisionTransformer(
            arch=dict(width=8, depth=2, num_heads=1, mlp_width=8),
            act='gelu',
            img_size=4,
            patch_size=4,
        )


class Record(Hook):
    """What each iteration trains with: rates, and the samples of its batch."""

    def __init__(self):
        self.rates, self.samples, self.by_epoch = {}, {}, {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        groups = runner.optim_wrapper.optimizer.param_groups
        self.rates[runner.iter] = [
            {key: group[key] for key in HYPERPARAMETERS if key in group}
            for group in groups
        ]
        samples = [int(x.item()) for x in data_batch['inputs']]
        self.samples[runner.iter] = samples
        self.by_epoch.setdefault(runner.epoch, []).extend(samples)


def cosine(epochs, lr_end=0.0):
    """The schedule of a public report: one epoch of warm-up, then a cosine."""
    return [
        dict(
            type='LinearLR',
            start_factor=0.01,
            end=1,
            convert_to_iter_based=True,
        ),
        dict(
            type='CosineAnnealingLR',
            eta_min=lr_end,
            begin=1,
            end=epochs,
            convert_to_iter_based=True,
        ),
    ]


SCHEDULES = {
    'warm-up and cosine': cosine,
    'by epoch': lambda epochs: [
        dict(type='LinearLR', start_factor=0.1, end=2),
        dict(type='CosineAnnealingLR', begin=1, end=epochs),
    ],
    'one cycle': lambda epochs: [
        dict(
            type='OneCycleLR',
            eta_max=0.1,
            end=epochs,
            convert_to_iter_based=True,
        )
    ],
    'polynomial': lambda epochs: [
        dict(
            type='PolyLR',
            power=0.9,
            eta_min=1e-5,
            end=epochs,
            convert_to_iter_based=True,
        )
    ],
    # The warm-up counts iterations, and the steps epochs.
    'steps': lambda epochs: [
        dict(type='LinearLR', by_epoch=False, start_factor=0.1, end=5),
        dict(type='MultiStepLR', milestones=[1, epochs - 1], gamma=0.3),
    ],
    'decay and momentum': lambda epochs: [
        dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True),
        dict(type='CosineAnnealingMomentum', T_max=epochs, eta_min=0.5),
        dict(
            type='CosineAnnealingWeightDecay',
            end=epochs,
            convert_to_iter_based=True,
        ),
    ],
    'restarts': lambda epochs: [
        dict(
            type='CosineRestartLR',
            periods=[2, epochs],
            restart_weights=[1, 0.5],
            eta_min=0.0,
        )
    ],
}
ADAMW = dict(
    type='AdamW', lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05
)
LAYER_DECAY = dict(
    constructor='mmclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65, flat_decay_mult=0.0),
)


def train(
    folder: Path,
    epochs: int = 4,
    resume: bool | str = False,
    new_schedule: bool = False,
    optimizer: dict = ADAMW,
    wrapper: dict | OptimWrapper | None = None,
    schedule: list | None = None,
    images: int = 6,
    batch_size: int = 2,
    sampler: dict | str = 'mmclip.ResumableSampler',
    shuffle: bool = True,
    iters: int | None = None,
    interval: int = 1,
    by_epoch: bool = True,
    model: Callable[[], Linear] = Linear,
    custom_hooks: tuple = (),
    config: dict | None = None,
    seed: int | None = 0,
    make_runner: Callable[..., Runner] = Runner,
    workers: int = 0,
    work_dir: str = 'work',
) -> Record:
    """Train three iterations an epoch, unless told otherwise."""
    record = Record()
    if not isinstance(wrapper, OptimWrapper):
        wrapper = copy.deepcopy(dict(optimizer=optimizer) | (wrapper or {}))
    runner = make_runner(
        model(),
        work_dir=str(folder / work_dir),
        cfg=Config(copy.deepcopy(config)) if config else None,
        train_dataloader=dict(
            batch_size=batch_size,
            num_workers=workers,
            dataset=Images(images),
            sampler=dict(type=sampler, shuffle=shuffle),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs)
        if iters is None
        else dict(by_epoch=False, max_iters=iters),
        optim_wrapper=wrapper,
        param_scheduler=copy.deepcopy(
            cosine(epochs) if schedule is None else schedule
        ),
        custom_hooks=[record, *copy.deepcopy(custom_hooks)],
        default_scope='mmpretrain',
        default_hooks=dict(
            logger=None,
            checkpoint=dict(
                type='mmclip.ReliableCheckpointHook',
                interval=interval,
                by_epoch=by_epoch and iters is None,
            ),
            exact_resume=dict(
                type='mmclip.ExactResumeHook', new_schedule=new_schedule
            ),
        ),
        resume=bool(resume),
        load_from=str(folder / resume) if isinstance(resume, str) else None,
        randomness=dict(seed=seed),
        experiment_name=f'{folder.name}-{next(_names)}',
    )
    runner.train()
    return record


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
    new['wrapper'] = LAYER_DECAY | dict(accumulative_counts=2)
    new['interval'] = 20  # no more checkpoints
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


EMA = dict(type='EMAHook', momentum=0.1)
MODEL = dict(
    type='Any',
    backbone=dict(drop_path_rate=0.1, init_cfg=dict(checkpoint='a.pth')),
    test_cfg=dict(mode='whole'),
)
PIPELINE = [dict(type='Load', file='here/a.txt'), dict(type='Flip', prob=0.5)]
CONFIG = dict(
    model=MODEL,
    train_dataloader=dict(dataset=dict(pipeline=PIPELINE)),
    optim_wrapper=dict(paramwise_cfg=dict(layer_decay_rate=0.65)),
)
SETTINGS = dict(
    wrapper=dict(clip_grad=dict(max_norm=1.0), accumulative_counts=2),
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
    'optim_wrapper.optimizer.weight_decay was 0.05 and is 0.1': dict(
        optimizer=dict(ADAMW, weight_decay=0.1)
    ),
    'optim_wrapper.optimizer.betas was [0.9, 0.999] and is [0.9, 0.98]': dict(
        optimizer=dict(ADAMW, betas=(0.9, 0.98))
    ),
    'optim_wrapper.optimizer.eps was 1e-08 and is 1e-06': dict(
        optimizer=dict(ADAMW, eps=1e-6)
    ),
    "optim_wrapper.optimizer.type was 'AdamW' and is 'SGD'": dict(
        optimizer=dict(type='SGD', lr=1e-3)
    ),
    'optim_wrapper (parameters in each group) was [2] and is [1, 1]': dict(
        wrapper=dict(
            WRAPPER, paramwise_cfg=dict(custom_keys=dict(bias=dict(lr_mult=2)))
        )
    ),
    'optim_wrapper.accumulative_counts was 2 and is 3': dict(
        wrapper=dict(WRAPPER, accumulative_counts=3)
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
    return replaced(config, (*LOADER, 'pipeline', 0, 'file'), 'there/a.txt')


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
    for i in new:
        (group,), (old,) = new[i], whole[i]
        assert group['weight_decay'] == pytest.approx(2 * old['weight_decay'])
        assert group | dict(weight_decay=0) == old | dict(weight_decay=0)
    assert decayed or new[6][0]['weight_decay'] == 0.1


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


def test_what_does_not_fit_the_state_is_never_applied(finished):
    for others in (
        dict(optimizer=dict(type='SGD', lr=1e-3)),
        dict(model=Tower),
        dict(iters=12),
    ):
        with pytest.raises(CheckpointError, match='cannot change in a run'):
            train(
                finished,
                resume='work/epoch_2.pth',
                new_schedule=True,
                **SETTINGS | others,
            )


@pytest.mark.parametrize('way', ['epochs', 'iterations'])
def test_the_order_goes_on_where_no_seed_is_set(tmp_path, way):
    settings = dict(seed=None, images=20, schedule=[], epochs=1)
    if way == 'iterations':
        settings['sampler'] = 'mmclip.ResumableInfiniteSampler'
        settings['iters'] = 10
    whole = train(tmp_path, by_epoch=False, **settings).samples
    again = train(tmp_path, resume='work/iter_4.pth', **settings).samples
    assert again == {i: whole[i] for i in range(4, 10)}


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
    'change',
    [
        lambda checkpoint: checkpoint['meta'].update(settings=[1]),
        lambda checkpoint: checkpoint['meta'].update(epoch='2'),
        lambda checkpoint: checkpoint.update(meta=2),
        lambda checkpoint: checkpoint['meta']['settings'].update(data=1),
        lambda checkpoint: checkpoint['optimizer'].update(param_groups=3),
        lambda checkpoint: checkpoint['optimizer'].update(param_groups=[3]),
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


@pytest.mark.parametrize(
    ('iters', 'wanted'),
    [(None, 'ResumableSampler'), (3, 'ResumableInfiniteSampler')],
)
def test_the_sampler_that_is_missing_is_named(tmp_path, capfd, iters, wanted):
    train(
        tmp_path, iters=iters, epochs=1, schedule=[], sampler='DefaultSampler'
    )
    assert f"type='mmclip.{wanted}'" in ''.join(capfd.readouterr())
