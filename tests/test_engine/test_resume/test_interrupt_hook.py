"""Signals in training; test_resume.py has those of whole programs."""

import multiprocessing
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmengine.hooks import Hook
from torch.utils.data import DataLoader, Dataset

from mmclip.checkpoint import read_checkpoint
from mmclip.engine.resume import interrupt_hook
from mmclip.engine.resume.interrupt_hook import InterruptHook
from mmclip.engine.resume.signals import STOPPING, Stopped
from tests.test_engine.runs import assert_identical

INTERRUPT = dict(type='mmclip.InterruptHook')


class Tell(Hook):
    """Sends signals at one iteration of training, or in its validation."""

    priority = 'HIGH'

    def __init__(self, *numbers, at=0, validating=False, batch=0):
        self.numbers, self.at = numbers, at
        self.validating, self.batch = validating, batch

    def before_train_iter(self, runner, *args, **kwargs):
        if not self.validating:
            self._tell(runner)

    def after_val_iter(self, runner, *args, **kwargs):
        if self.validating:
            self._tell(runner)

    def _tell(self, runner):
        if runner.iter == self.at:
            self.batch -= 1
            if self.batch == -1:
                for number in self.numbers:
                    signal.raise_signal(number)


def stop(train, *numbers, **settings) -> int:
    """The exit code of a run that is told to stop."""
    with pytest.raises(Stopped) as stopped:
        train(interrupt=INTERRUPT, **settings)
    return stopped.value.code


@pytest.mark.parametrize('number', STOPPING)
def test_the_step_ends_and_a_checkpoint_is_written(train, tmp_path, number):
    """All passes that it accumulates; the second of three is told."""
    settings = dict(iters=6, accumulate=3, sampler='InfiniteSampler')
    settings['checkpoint'] = dict(by_epoch=False, interval=9)
    tell, handlers = Tell(number, at=1), [*map(signal.getsignal, STOPPING)]
    code = stop(train, **settings, custom_hooks=[tell], work_dir='stopped')
    assert code == 128 + number
    assert [*map(signal.getsignal, STOPPING)] == handlers
    (checkpoint,) = (tmp_path / 'stopped').glob('*.pth')
    assert checkpoint.name == 'iter_3.pth'
    resumed = train(**settings, resume=True, work_dir='stopped')
    whole = train(**settings, work_dir='whole')
    for one, other in zip(
        resumed.model.parameters(), whole.model.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_ctrl_c_is_still_a_keyboard_interrupt(train):
    with pytest.raises(KeyboardInterrupt):
        train(interrupt=INTERRUPT, custom_hooks=[Tell(signal.SIGINT)])


@pytest.mark.parametrize('origin', [False, True])
def test_a_validation_is_left_with_the_weights_of_training(
    train, tmp_path, origin
):
    """At each of its batches, not with the averages that are validated."""
    average = dict(type='mmpretrain.EMAHook', momentum=0.4)
    average['evaluate_on_origin'] = origin
    train(scores=[1, 2, 3], custom_hooks=[average], work_dir='whole')
    wanted = read_checkpoint(tmp_path / 'whole' / 'epoch_2.pth')
    for batch in range(4 if origin else 2):
        tell = Tell(signal.SIGTERM, at=4, validating=True, batch=batch)
        settings = dict(scores=[1, 2, 3], work_dir=f'stopped{batch}')
        assert stop(train, custom_hooks=[average, tell], **settings) == 143
        assert tell.batch == -1
        folder = tmp_path / f'stopped{batch}'
        assert_identical(read_checkpoint(folder / 'iter_4.pth'), wanted)


def test_a_validation_that_was_left_is_made_up_for(train, tmp_path, capfd):
    settings = dict(
        scores=[1, 3, 2],
        checkpoint=dict(save_best='score', rule='greater'),
        interrupt=INTERRUPT,
    )
    average = dict(type='mmpretrain.EMAHook', momentum=0.4)
    train(**settings, custom_hooks=[average], work_dir='whole')
    tell = Tell(signal.SIGTERM, at=4, validating=True)
    with pytest.raises(Stopped):
        train(**settings, custom_hooks=[average, tell])
    train(**settings, custom_hooks=[average], resume=True)
    assert 'Validate iteration 4' in capfd.readouterr().out
    runs = [tmp_path / 'work', tmp_path / 'whole']
    assert_identical(*(read_checkpoint(run / 'epoch_3.pth') for run in runs))
    best = [read_checkpoint(run / 'best_score_epoch_2.pth') for run in runs]
    torch.testing.assert_close(
        best[0]['state_dict'], best[1]['state_dict'], rtol=0, atol=0
    )


class Replace(Hook):
    """Validates other weights, in a way that nobody else knows."""

    def before_val_epoch(self, runner):
        with torch.no_grad():
            runner.model.layer.weight.add_(1)

    def after_val_epoch(self, runner, metrics=None):
        with torch.no_grad():
            runner.model.layer.weight.sub_(1)


def test_a_validation_of_unknown_weights_is_finished_first(train, tmp_path):
    tell = Tell(signal.SIGTERM, at=2, validating=True)
    settings = dict(scores=[1, 2, 3], custom_hooks=[Replace(), tell])
    assert stop(train, **settings) == 143
    one = read_checkpoint(tmp_path / 'work' / 'iter_2.pth')
    other = read_checkpoint(tmp_path / 'work' / 'epoch_1.pth')
    torch.testing.assert_close(one['state_dict'], other['state_dict'])


def test_a_validation_within_a_step_is_finished_and_so_is_the_step(
    train, tmp_path
):
    """Epochs of two passes, steps of three; a signal after the first."""
    tell = Tell(signal.SIGTERM, at=2, validating=True)
    settings = dict(scores=[1, 2, 3], accumulate=3, custom_hooks=[tell])
    assert stop(train, **settings) == 143
    assert (tmp_path / 'work' / 'iter_3.pth').exists()


class TellInWriting(Hook):
    def before_save_checkpoint(self, runner, checkpoint):
        signal.raise_signal(signal.SIGTERM)


def test_a_checkpoint_that_is_being_written_is_finished(train, tmp_path):
    assert stop(train, custom_hooks=[TellInWriting()]) == 143
    for name, iteration in ('epoch_1.pth', 2), ('iter_3.pth', 3):
        checkpoint = read_checkpoint(tmp_path / 'work' / name)
        assert checkpoint['meta']['iter'] == iteration


def test_the_same_signal_twice_is_one(train, tmp_path):
    """As `timeout` sends it, to a process and to its group."""
    tell = Tell(signal.SIGTERM, signal.SIGTERM, signal.SIGHUP)
    assert stop(train, custom_hooks=[tell]) == 143
    assert (tmp_path / 'work' / 'iter_1.pth').exists()


def test_a_second_signal_stops_at_once(train, tmp_path, monkeypatch):
    monkeypatch.setattr(interrupt_hook, 'SAME', 0)
    tell = Tell(signal.SIGTERM, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(interrupt=INTERRUPT, custom_hooks=[tell])
    assert stopped.type is KeyboardInterrupt
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_what_nohup_ignores_stays_ignored(train):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    runner = train(interrupt=INTERRUPT, custom_hooks=[Tell(signal.SIGHUP)])
    assert runner.iter == 6


def test_ctrl_c_is_heard_in_the_background(train):
    """Where shells let it be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert stop(train, custom_hooks=[Tell(signal.SIGINT)]) == 130


def test_another_thread_than_the_main_one_trains_too(train, capfd):
    with ThreadPoolExecutor() as threads:
        runner = threads.submit(train, interrupt=INTERRUPT).result()
    assert runner.iter == 6
    assert 'no signal will save a checkpoint' in capfd.readouterr().out


class Pids(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return os.getpid()


def test_data_workers_obey_their_parent_alone():
    hook = InterruptHook()  # they do as long as it is there
    batches = iter(DataLoader(Pids(), num_workers=2, prefetch_factor=1))
    workers = [int(next(batches)), int(next(batches))]
    assert len({os.getpid(), *workers}) == 3
    for number in STOPPING:
        subprocess.run(['kill', f'-{number}', *map(str, workers)], check=True)
    assert len(list(batches)) == 38
    del batches, hook


def test_the_parent_can_end_data_workers():
    hook = InterruptHook()
    fork = multiprocessing.get_context('fork')
    ready = fork.Event()

    def wait():
        ready.set()
        time.sleep(60)

    worker = fork.Process(target=wait)
    worker.start()
    ready.wait()
    worker.terminate()
    worker.join(30)
    assert worker.exitcode == 0
    del hook
