"""Signals while a run is prepared."""

import os
import signal
import time

import pytest
from mmengine.config import Config, config

from mmclip.engine.resume.signals import STOPPING, end_at_once


def exit_code(several, *numbers, run=time.sleep, arguments=(60,)) -> int:
    """Of a process that is told to end while it runs."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        end_at_once(several)
        os.write(writing, b'ready')
        run(*arguments)
        os._exit(0)
    os.read(reading, 5)
    for number in numbers:
        os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize('number', STOPPING)
def test_a_signal_ends_what_has_not_begun(number):
    assert exit_code(False, number) == 128 + number
    # By default, for which no Python has to run, and which launchers know.
    assert exit_code(True, number) == -number


def test_what_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert exit_code(False, signal.SIGHUP, signal.SIGTERM) == 143
    assert exit_code(True, signal.SIGHUP, arguments=[0.1]) == 0


def test_ctrl_c_while_a_config_is_written(monkeypatch):
    """mmengine would take an exception for a fault of the config."""
    format_code = config.FormatCode

    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        return format_code(*args, **kwargs)

    monkeypatch.setattr(config, 'FormatCode', interrupted)

    cfg = Config(dict(lr=1))
    assert exit_code(False, run=getattr, arguments=(cfg, 'pretty_text')) == 130
