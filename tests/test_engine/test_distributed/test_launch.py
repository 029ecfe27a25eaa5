"""Several processes: signals are handed on, and exit codes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.distributed.elastic.multiprocessing.errors import (
    ChildFailedError,
    ProcessFailure,
)
from torch.distributed.run import config_from_args

from mmclip.commands import launch
from tests.conftest import REPOSITORY
from tests.processes import finish
from tests.test_engine.runs import (
    TRAIN,
    assert_end_alike,
    raised,
    start,
    write_config,
)

LAUNCH = TRAIN.with_name('launch.py')


def ranks(launcher: int) -> list[int]:
    with open(f'/proc/{launcher}/task/{launcher}/children') as children:
        return [int(pid) for pid in children.read().split()]


def launched(folder: Path, work_dir: str) -> subprocess.Popen:
    """Two processes of the launcher, as tools/dist_train.sh starts it."""
    command = [sys.executable, LAUNCH, '--standalone']
    command += ['--nproc_per_node=2', TRAIN, 'config.py', '--resume']
    return subprocess.Popen(
        [*command, '--work-dir', work_dir, '--launcher', 'pytorch'],
        cwd=folder,
        env=os.environ
        | dict(PYTHONPATH=f'{folder}:{REPOSITORY}', PAUSE='0.05'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_stop_at_one_iteration(images, whole):
    """SIGTERM to one of them, then SIGUSR1 to their launcher."""
    write_config(images, 'mid-epoch', 2)
    for number in signal.SIGTERM, signal.SIGUSR1:
        if number == signal.SIGTERM:
            run = start(images, 'stopped', 2, PAUSE='0.05')
        else:
            run = launched(images, 'stopped')
        for line in run.stdout:
            if '(train)' in line:
                break
        one = ranks(run.pid)[-1] if number == signal.SIGTERM else run.pid
        os.kill(one, number)
        log, _ = run.communicate(timeout=120)
        assert run.returncode == 128 + number, log
        assert not raised(log), log
        written = set(re.findall(rf'{number.name}; writing (iter_\d+)', log))
        assert len(written) == 1, log
    finish(start(images, 'stopped', 2))
    assert_end_alike(images / 'stopped', whole('mid-epoch', 2))


STUBBORN = """
import os, signal, time
from pathlib import Path
for number in signal.SIGTERM, signal.SIGUSR1:
    signal.signal(number, signal.SIG_IGN)
Path('pid').write_text(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.slow
def test_no_process_is_left_when_signals_go_on(tmp_path):
    (tmp_path / 'script.py').write_text(STUBBORN)
    run = subprocess.Popen(
        [sys.executable, LAUNCH, '--standalone', 'script.py'],
        cwd=tmp_path,
    )
    while not (pid := tmp_path / 'pid').exists() or not pid.read_text():
        assert run.poll() is None
        time.sleep(0.1)
    while run.poll() is None:
        run.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
    assert run.returncode == 138
    while Path(f'/proc/{pid.read_text()}').exists():  # until it is reaped
        time.sleep(0.1)


def started(monkeypatch, *options: str, error: Exception | None = None):
    """The torchrun that would run, and the exit code."""
    seen = SimpleNamespace()

    def run(args):
        seen.config, _, _ = config_from_args(args)
        if error is not None:
            raise error

    monkeypatch.setattr('torch.distributed.run.run', run)
    # Set and removed again, so that what it sets is undone.
    monkeypatch.setenv('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', '')
    monkeypatch.delenv('TORCH_ELASTIC_SHUTDOWN_TIMEOUT')
    seen.code = launch.main([*options, str(TRAIN)])
    return seen


def test_torchrun_hands_on_what_stops_a_run_and_waits(monkeypatch):
    config = started(monkeypatch).config
    handled = config.signals_to_handle.split(',')
    assert {n.name for n in launch.STOPPING} <= set(handled)
    assert config.shutdown_timeout == 1800


def test_torchrun_leaves_ignored_what_nohup_ignores(monkeypatch):
    for number in signal.SIGHUP, signal.SIGINT:
        signal.signal(number, signal.SIG_IGN)
    config = started(monkeypatch).config
    assert config.signals_to_handle == 'SIGTERM,SIGINT,SIGQUIT,SIGUSR1'


def failed(*exit_codes: int) -> ChildFailedError:
    failures = {
        rank: ProcessFailure(
            local_rank=rank, pid=4711, exitcode=code, error_file='none'
        )
        for rank, code in enumerate(exit_codes)
    }
    return ChildFailedError('train.py', failures)


@pytest.mark.parametrize(
    ('codes', 'exit_code'),
    [
        # Agreed by all; one was told while it ended.
        ([138, 138], 138),
        ([-15, 143], 143),
        # Others end of the first one, which has said why.
        ([1, -15], 1),
        ([-15, 7], 7),
        ([2, 2], 2),
        ([1, -9], 1),
    ],
)
def test_the_exit_code_tells_why(monkeypatch, capsys, codes, exit_code):
    assert started(monkeypatch, error=failed(*codes)).code == exit_code
    said = capsys.readouterr().err
    assert ('error: rank 1 was killed by SIGKILL' in said) == (-9 in codes)


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        ('trian c.py', "no command 'trian' (did you mean 'train'?), and"),
        ('no.py', "no command 'no.py', and there is no file of this name"),
        ('--nproc_per_node 2', 'a COMMAND is missing, such as train CONFIG'),
        ('soup a.pth', 'soup runs in one process: type mmclip soup'),
        ('--nproc_per_node x train', 'Unsupported nproc_per_node value: x.'),
        ('--nnodes 2:1 train', 'Wrong options of torchrun: '),
    ],
)
def test_wrong_usage_is_one_sentence(monkeypatch, capsys, line, said):
    monkeypatch.setenv('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', '')
    assert launch.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert said in error.splitlines()[0]


def test_the_commands_that_it_starts_are_those_with_the_option():
    folder = REPOSITORY / 'mmclip' / 'commands'
    takes = {
        path.stem
        for path in folder.glob('[!_]*.py')
        if 'add_launcher(' in path.read_text()
    }
    assert takes == set(launch.DISTRIBUTED)
