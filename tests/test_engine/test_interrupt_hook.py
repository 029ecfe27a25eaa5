"""Ctrl-C under torchrun; test_resume.py has that of one process."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from mmengine.config import Config, config

from mmclip.engine.interrupt_hook import keep_interrupts_from_workers
from tests.test_engine.runs import (
    TRAIN,
    assert_end_alike,
    finish,
    start,
    write_config,
)

LAUNCH = TRAIN.with_name('launch.py')


@pytest.mark.slow
@pytest.mark.parametrize('everyone', [True, False])
def test_ctrl_c_stops_two_processes_at_one_iteration(images, whole, everyone):
    """Sent to all, as a terminal does, or to one process of training."""
    write_config(images, 'mid-epoch', 0)
    run = start(images, 'interrupted', 2)
    for line in run.stdout:
        if '(train)' in line:
            break
    time.sleep(0.3)
    if everyone:
        os.killpg(run.pid, signal.SIGINT)
    else:
        path = f'/proc/{run.pid}/task/{run.pid}/children'
        with open(path) as children:
            os.kill(int(children.read().split()[-1]), signal.SIGINT)
    log, _ = run.communicate(timeout=120)
    assert run.returncode == 130, log
    assert 'Interrupted; writing iter_' in log, log
    assert len(set(re.findall(r'writing (iter_\d+)', log))) == 1, log
    finish(start(images, 'interrupted', 2))
    assert_end_alike(images / 'interrupted', whole('mid-epoch', 2))


SLOW_TO_END = """
import signal, time
from pathlib import Path

def end(*_):
    time.sleep(32)
    Path('ended').touch()
    raise SystemExit(130)

signal.signal(signal.SIGINT, end)
Path('began').touch()
time.sleep(60)
"""


@pytest.mark.slow
def test_torchruns_thirty_seconds_are_not_all(tmp_path):
    """A validation takes longer."""
    (tmp_path / 'script.py').write_text(SLOW_TO_END)
    run = subprocess.Popen(
        [sys.executable, LAUNCH, '--standalone', 'script.py'],
        cwd=tmp_path,
        start_new_session=True,
    )
    while not (tmp_path / 'began').exists():
        assert run.poll() is None
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=60) == 130
    assert (tmp_path / 'ended').exists()


def test_the_signal_is_given_back(train):
    before = signal.getsignal(signal.SIGINT)
    train(epochs=1, interrupt=dict(type='mmclip.InterruptHook'))
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_a_config_is_written(monkeypatch):
    """mmengine would call it a fault of the config."""
    format_code = config.FormatCode

    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        return format_code(*args, **kwargs)

    monkeypatch.setattr(config, 'FormatCode', interrupted)
    before = signal.getsignal(signal.SIGINT)
    keep_interrupts_from_workers()
    try:
        assert 'lr = 1' in Config(dict(lr=1)).pretty_text
        with pytest.raises(KeyboardInterrupt):
            time.sleep(30)
    finally:
        signal.signal(signal.SIGINT, before)
