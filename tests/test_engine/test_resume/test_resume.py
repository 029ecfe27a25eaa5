"""Runs that are killed end like runs that are not."""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.test_engine.runs import (
    WAYS,
    assert_end_alike,
    assert_identical,
    final_checkpoint,
    finish,
    raised,
    start,
    write_config,
)


def kill_in_training(run: subprocess.Popen, seconds: float) -> None:
    """SIGKILL to all processes, some time after the first iteration."""
    for line in run.stdout:
        if '(train)' in line:
            break
    time.sleep(seconds)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('processes', [1, 2])
def test_a_killed_run_ends_bit_identical(
    images, whole, way, workers, processes
):
    write_config(images, way, workers)
    kills = random.Random(f'{way} {workers} {processes}')
    for _ in range(3 - processes):  # two processes take their time
        run = start(images, 'killed', processes)
        kill_in_training(run, kills.uniform(0.1, 1.2))
    finish(start(images, 'killed', processes))
    assert_end_alike(images / 'killed', whole(way, processes))
    assert not list((images / 'killed').glob('.mmclip-tmp-*'))


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
@pytest.mark.parametrize(
    ('moment', 'log'),
    [
        (dict(DIE_WRITING='epoch_3.pth'), 'killed/epoch_2.pth.'),
        (dict(DIE_VALIDATING='{3 epochs}'), 'Validate iteration {3 epochs}'),
        (dict(DIE_VALIDATING='{5 epochs}'), 'Validate iteration {5 epochs}'),
    ],
)
def test_killed_while_writing_or_validating(
    images, whole, moment, log, processes
):
    """At an epoch in between, and at the last."""
    length = 4 // processes
    name, at = dict(moment).popitem()
    for epochs in 3, 5:
        at = at.replace(f'{{{epochs} epochs}}', str(epochs * length))
        log = log.replace(f'{{{epochs} epochs}}', str(epochs * length))
    write_config(images, 'epochs', 0)
    run = start(images, 'killed', processes, **{name: at})
    run.communicate(timeout=300)
    assert run.returncode != 0
    if name == 'DIE_WRITING':
        assert list((images / 'killed').glob('.mmclip-tmp-*'))
        assert not (images / 'killed' / at).exists()
    assert log in finish(start(images, 'killed', processes))
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
    run = start(images, 'stopped', 1)
    for line in run.stdout:
        if '(train)' in line:
            break
    time.sleep(0.4)
    os.killpg(run.pid, number)
    log, _ = run.communicate(timeout=60)
    assert run.returncode == 128 + number, log
    assert not raised(log), log
    assert f'Interrupted by {number.name}; writing iter_' in log
    finish(start(images, 'stopped', 1))
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
    log, _ = run.communicate(timeout=300)
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
def test_without_the_sampler_it_would_end_otherwise(images):
    """What the comparison above would see."""
    write_config(images, 'mid-epoch', 0)
    finish(start(images, 'whole', 1))
    text = (images / 'config.py').read_text()
    text = text.replace('mmclip.ResumableSampler', 'DefaultSampler')
    (images / 'config.py').write_text(text)
    kill_in_training(start(images, 'killed', 1), 0.7)
    finish(start(images, 'killed', 1))
    with pytest.raises(AssertionError):
        assert_identical(
            final_checkpoint(images / 'killed'),
            final_checkpoint(images / 'whole'),
        )
