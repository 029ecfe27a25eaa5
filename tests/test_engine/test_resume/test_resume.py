"""Runs that are killed end like runs that are not."""

import os
import random
import shutil
import signal
import time

import pytest

from tests.processes import finish
from tests.test_engine.runs import (
    TRAIN,
    WAYS,
    assert_end_alike,
    assert_identical,
    final_checkpoint,
    is_killed,
    raised,
    start,
    write_config,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('way', 'processes', 'workers', 'kills'),
    [
        ('epochs', 1, 0, (2, 9)),
        ('mid-epoch', 1, 2, (4, 9)),
        ('iterations', 1, 0, (4, 13)),
        ('epochs', 2, 0, (5,)),
        ('mid-epoch', 2, 2, (4,)),
    ],
)
def test_a_killed_run_ends_bit_identical(
    images, whole, way, processes, workers, kills
):
    """Killed in iterations after which no checkpoint is written."""
    write_config(images, way, workers)
    for at in kills:
        kill = dict(DISTURB=f'train {at} SIGKILL')
        assert is_killed(start(images, 'killed', processes, **kill))
    finish(start(images, 'killed', processes))
    assert_end_alike(images / 'killed', whole(way, processes))
    assert not list((images / 'killed').glob('.mmclip-tmp-*'))


@pytest.mark.exhaustive
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('processes', [1, 2])
def test_it_may_be_killed_at_any_moment(
    images, whole, way, workers, processes
):
    write_config(images, way, workers)
    moments = random.Random(f'{way} {workers} {processes}')
    for _ in range(3):
        run = start(images, 'killed', processes, PAUSE='0.05')
        for line in run.stdout:
            if '(train)' in line:
                break
        time.sleep(moments.uniform(0.1, 1.2))
        os.killpg(run.pid, signal.SIGKILL)
        assert is_killed(run)
    finish(start(images, 'killed', processes))
    assert_end_alike(images / 'killed', whole(way, processes))
    assert not list((images / 'killed').glob('.mmclip-tmp-*'))


TWO = pytest.param(2, marks=pytest.mark.exhaustive)


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, TWO])
@pytest.mark.parametrize('epochs', [3, 5])
def test_killed_in_a_validation(images, whole, epochs, processes):
    """Of an epoch in between, and of the last."""
    write_config(images, 'epochs', 0)
    iterations = epochs * 4 // processes
    kill = dict(DISTURB=f'val {iterations} SIGKILL')
    assert is_killed(start(images, 'killed', processes, **kill))
    log = finish(start(images, 'killed', processes))
    assert f'Validate iteration {iterations}' in log
    assert_end_alike(images / 'killed', whole('epochs', processes))


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, TWO])
def test_killed_while_a_checkpoint_is_written(images, whole, processes):
    write_config(images, 'epochs', 0)
    kill = dict(DISTURB='write epoch_3.pth SIGKILL')
    assert is_killed(start(images, 'killed', processes, **kill))
    assert list((images / 'killed').glob('.mmclip-tmp-*'))
    assert not (images / 'killed' / 'epoch_3.pth').exists()
    log = finish(start(images, 'killed', processes))
    assert 'killed/epoch_2.pth.' in log
    assert_end_alike(images / 'killed', whole('epochs', processes))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('way', 'workers', 'number'),
    [
        ('epochs', 0, signal.SIGINT),
        ('epochs', 2, signal.SIGTERM),
        ('iterations', 2, signal.SIGHUP),
    ],
)
def test_a_signal_leaves_a_checkpoint(images, whole, way, workers, number):
    """Sent to the whole group, and so to the data workers, too."""
    write_config(images, way, workers)
    run = start(images, 'stopped', DISTURB=f'train 5 {number.name}')
    log, _ = run.communicate()
    assert run.returncode == 128 + number, log
    assert not raised(log), log
    assert f'Interrupted by {number.name}; writing iter_' in log
    (written,) = (images / 'stopped').glob('iter_*.pth')
    assert log.endswith(
        f'\nwrote stopped/{written.name} (the run so far)\n'
        f'next: python {TRAIN} config.py --work-dir stopped --resume\n'
    )
    finish(start(images, 'stopped'))
    assert_end_alike(images / 'stopped', whole(way))


@pytest.mark.slow
def test_other_processes_go_on_with_the_next_epoch_or_not_at_all(
    images, whole
):
    """Twice as many see twice as many images in an iteration."""
    write_config(images, 'epochs', 0)
    text = (images / 'config.py').read_text()
    text = text.replace('max_epochs=5', 'max_epochs=6')
    (images / 'config.py').write_text(text)
    shutil.copytree(whole('epochs'), images / 'more')
    run = start(images, 'more', 2)
    log, _ = run.communicate()
    assert run.returncode != 0
    assert 'batch_size x processes was 4 and is 8' in log
    with open(images / 'config.py', 'a') as config:
        config.write("default_hooks['exact_resume'] = dict(\n")
        config.write("    type='mmclip.ExactResumeHook', new_schedule=True)\n")
    log = finish(start(images, 'more', 2))
    assert 'Epoch(train) [6][2/2]' in log
    # Two iterations an epoch, as in a run of two processes.
    assert final_checkpoint(images / 'more')['meta']['iter'] == 12


@pytest.mark.slow
def test_without_the_sampler_it_would_end_otherwise(images, whole):
    """What the comparison above would see."""
    write_config(images, 'mid-epoch', 0)
    text = (images / 'config.py').read_text()
    text = text.replace('mmclip.ResumableSampler', 'DefaultSampler')
    (images / 'config.py').write_text(text)
    kill = dict(DISTURB='train 4 SIGKILL')
    assert is_killed(start(images, 'killed', **kill))
    finish(start(images, 'killed'))
    with pytest.raises(AssertionError):
        assert_identical(
            final_checkpoint(images / 'killed'),
            final_checkpoint(whole('mid-epoch')),
        )
