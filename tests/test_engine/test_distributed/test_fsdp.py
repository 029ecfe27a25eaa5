"""Sharded training is data-parallel training, with less memory."""

import shutil

import pytest
import torch

from mmclip.checkpoint import read_checkpoint
from mmclip.engine.distributed.fully_shard import StrategyRunner
from tests.conftest import REPOSITORY
from tests.processes import Process, finish
from tests.test_engine.runs import (
    assert_identical,
    final_checkpoint,
    is_killed,
    make_images,
    start,
    write_config,
)

OVERLAY = REPOSITORY / 'configs' / '_base_' / 'fsdp.py'
# Sums of the same numbers in another order, over five steps of SGD.
RELATIVE_TOLERANCE = 1e-4
SETTINGS = """
optim_wrapper['optimizer'] = dict(
    type='SGD', lr={lr}, momentum=0.9, weight_decay=0.05
)
optim_wrapper.update(
    clip_grad=dict(max_norm=1.0),
    accumulative_counts=2,
    constructor='mmclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65, flat_decay_mult=0.0),
)
default_hooks['checkpoint'].update(max_keep_ckpts=-1)
"""
DDP, FSDP, OTHER_RATE = 'ddp.py', 'fsdp.py', 'other_rate.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images, configs, and a whole run of each config."""
    root = make_images(tmp_path_factory.mktemp('fsdp'))
    write_config(root, 'epochs', workers=0)
    text = (root / 'config.py').read_text()
    (root / DDP).write_text(text + SETTINGS.format(lr=0.1))
    (root / OTHER_RATE).write_text(text + SETTINGS.format(lr=0.11))
    (root / FSDP).write_text(f"_base_ = ['./{DDP}', '{OVERLAY}']\n")
    for config in (DDP, FSDP, OTHER_RATE):
        finish(train_two(root, config, f'whole_{config}'))
    return root


def train_two(folder, config, work_dir, *options, **disturb) -> Process:
    return start(folder, work_dir, 2, config, options, **disturb)


def assert_close(ours: dict, wanted: dict) -> None:
    for part in ('state_dict', 'ema_state_dict'):
        assert list(ours[part]) == list(wanted[part])
        for key, tensor in wanted[part].items():
            difference = (ours[part][key] - tensor).abs().max()
            assert difference <= RELATIVE_TOLERANCE * tensor.abs().max(), key


def settings(checkpoint: dict) -> list[dict]:
    """Learning rate, weight decay and the like of each group."""
    return checkpoint['optimizer']['param_groups']


@pytest.mark.slow
def test_the_weights_are_those_of_data_parallel_training(folder):
    ours = final_checkpoint(folder / f'whole_{FSDP}')
    wanted = final_checkpoint(folder / f'whole_{DDP}')
    assert_close(ours, wanted)
    assert settings(ours) == settings(wanted)
    assert len({group['lr'] for group in settings(ours)}) > 3
    types = {type(tensor) for tensor in ours['state_dict'].values()}
    assert types == {torch.Tensor}
    with pytest.raises(AssertionError):
        assert_close(ours, final_checkpoint(folder / f'whole_{OTHER_RATE}'))


@pytest.mark.slow
def test_a_killed_run_ends_bit_identical(folder):
    kill = dict(DISTURB='train 6 SIGKILL')
    assert is_killed(train_two(folder, FSDP, 'killed', **kill))
    # All that mmengine's FlexibleRunner would look for.
    (folder / 'killed' / 'last_checkpoint').unlink(missing_ok=True)
    assert 'Resume from' in finish(train_two(folder, FSDP, 'killed'))
    ours, wanted = (
        final_checkpoint(folder / work_dir)
        for work_dir in ('killed', f'whole_{FSDP}')
    )
    assert settings(ours) == settings(wanted)
    for checkpoint in (ours, wanted):  # names are no numbers
        checkpoint['optimizer'] = checkpoint['optimizer']['state']
    assert_identical(ours, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(('first', 'then'), [(DDP, FSDP), (FSDP, DDP)])
def test_either_goes_on_from_the_others_checkpoint(folder, first, then):
    work_dir = folder / f'{first}_{then}'
    work_dir.mkdir()
    shutil.copy(folder / f'whole_{first}' / 'epoch_3.pth', work_dir)
    finish(train_two(folder, then, work_dir.name))
    assert not (work_dir / 'epoch_2.pth').exists()
    assert_close(
        final_checkpoint(folder / work_dir.name),
        final_checkpoint(folder / f'whole_{then}'),
    )


@pytest.mark.slow
def test_a_new_rate_is_that_of_a_fresh_run(folder):
    config = folder / 'other_rate_fsdp.py'
    config.write_text(f"_base_ = ['./{OTHER_RATE}', '{OVERLAY}']\n")
    work_dir = folder / 'new_rate'
    work_dir.mkdir()
    shutil.copy(folder / f'whole_{DDP}' / 'epoch_3.pth', work_dir)
    run = train_two(folder, config.name, work_dir.name)
    log, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    assert 'optim_wrapper.optimizer.lr was 0.1 and is 0.11' in log
    new = '--resume-with-new-schedule'
    finish(train_two(folder, config.name, work_dir.name, new))
    ours = final_checkpoint(work_dir)
    wanted = final_checkpoint(folder / f'whole_{OTHER_RATE}')
    assert settings(ours) == settings(wanted)
    assert ours['param_schedulers'] == wanted['param_schedulers']


@pytest.mark.slow
@pytest.mark.parametrize('config', [DDP, FSDP])
def test_mixed_precision_comes_close(folder, config):
    finish(train_two(folder, config, f'amp_{config}', '--amp'))
    ours = final_checkpoint(folder / f'amp_{config}')['ema_state_dict']
    wanted = final_checkpoint(folder / f'whole_{config}')['ema_state_dict']
    for key, tensor in wanted.items():
        difference = (ours[key] - tensor).abs().max()
        # bfloat16 has 8 bits; most of them are lost on small gradients.
        assert difference <= 0.05 * tensor.abs().max().clamp(min=0.1), key
    weight = 'module.backbone.layers.0.attn.qkv.weight'
    assert not torch.equal(ours[weight], wanted[weight])


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_is_refused(folder):
    checkpoint = read_checkpoint(folder / f'whole_{FSDP}' / 'epoch_3.pth')
    del checkpoint['state_dict']['backbone.cls_token']
    (folder / 'unfit').mkdir()
    torch.save(checkpoint, folder / 'unfit' / 'epoch_3.pth')
    run = train_two(folder, FSDP, 'unfit')
    log, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    assert 'backbone.cls_token' in log


def test_the_best_checkpoint_is_of_its_epoch(train, tmp_path):
    """mmengine's FlexibleRunner takes it for the next one's."""

    def make_runner(*args, **settings):
        return StrategyRunner(
            *args, strategy=dict(type='SingleDeviceStrategy'), **settings
        )

    settings = dict(
        make_runner=make_runner,
        checkpoint=dict(save_best='score', rule='greater'),
        scores=[1, 2, 3, 4],
    )
    train(epochs=2, **settings)
    for name in ('epoch_2.pth', 'best_score_epoch_2.pth'):
        meta = read_checkpoint(tmp_path / 'work' / name)['meta']
        assert (meta['epoch'], meta['iter']) == (2, 4), name
    runner = train(epochs=3, resume=True, **settings)
    assert (runner.epoch, runner.iter) == (3, 6)


def test_without_processes_it_says_how_to_start_them(images):
    write_config(images, 'epochs', workers=0)
    (images / FSDP).write_text(f"_base_ = ['./config.py', '{OVERLAY}']\n")
    run = start(images, 'alone', config=FSDP)
    log, _ = run.communicate()
    assert run.returncode == 1
    assert 'start it with mmclip launch' in log
