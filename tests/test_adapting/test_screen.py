import os
import signal
import time

import pytest

from mmclip.adapting.screen import stoppable


def test_workers_that_end_with_the_run_are_not_an_error(capsys):
    """A batch system sends the signal to all processes of a run."""
    with pytest.raises(SystemExit) as end, stoppable('AGAIN'):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise RuntimeError('a worker is killed')
    assert end.value.code == 143
    assert capsys.readouterr().err.endswith('type: AGAIN\n')


def test_a_signal_during_a_finalizer_is_not_lost(capsys):
    """Python drops what is raised in one."""

    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as end, stoppable('AGAIN'):
        Finalized()
        time.sleep(10)
    assert end.value.code == 143
    assert (
        capsys.readouterr().err
        == '\nstopped. To go on from here, type: AGAIN\n'
    )


def test_an_error_stays_one(capsys):
    with pytest.raises(RuntimeError), stoppable('AGAIN'):
        raise RuntimeError
    assert capsys.readouterr().err == ''
