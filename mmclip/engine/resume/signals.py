"""The signals with which people and schedulers end a run."""

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

# Ctrl-C; docker stop, kill and Slurm's time limit; Slurm's --signal; a
# terminal that closes. Windows has not all of them.
STOPPING = [
    signal.Signals[name]
    for name in ('SIGINT', 'SIGTERM', 'SIGUSR1', 'SIGHUP')
    if hasattr(signal, name)
]


class Stopped(SystemExit, KeyboardInterrupt):
    """A run that ends because of a signal, with the exit code 128 + number.

    It is a ``KeyboardInterrupt`` too, since that is what Ctrl-C was.
    """


def is_heard(number: signal.Signals) -> bool:
    """Whether a signal may be taken over.

    What is ignored at the start, such as SIGHUP by ``nohup``, stays ignored.
    Ctrl-C does not: a shell lets all that it runs in the background ignore it.
    """
    handler = signal.getsignal(number)
    if number == signal.SIGINT:
        return handler is not None
    return handler not in (signal.SIG_IGN, None)


def end_at_once(several: bool) -> None:
    """Let a signal end this process until the training begins.

    There is nothing to save yet, and an exception could be caught: mmengine
    would take one for a fault of the config that it reads.

    Args:
        several (bool): Whether this is one process of several. It may wait
            for another one that is gone, deaf to all but the default action.
    """
    for number in STOPPING:
        if is_heard(number):
            signal.signal(number, signal.SIG_DFL if several else _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def obey_the_parent_alone(_: object = None) -> None:
    """Let a data worker ignore signals, but for the parent's SIGTERM.

    A signal reaches workers too where it goes to a group or a whole job, and
    a run whose workers are gone can write no checkpoint. torch sets a handler
    of its own for SIGTERM afterwards, so all are blocked.
    """
    ignored = set(STOPPING)
    if hasattr(signal, 'sigwaitinfo'):
        waiting = threading.Thread(target=_wait, args=[os.getppid()])
        waiting.daemon = True
        signal.pthread_sigmask(signal.SIG_BLOCK, ignored)
        waiting.start()
    else:  # macOS, where nobody could tell whose SIGTERM it is
        signal.pthread_sigmask(signal.SIG_BLOCK, ignored - {signal.SIGTERM})


def _wait(parent: int) -> None:
    while True:
        told = signal.sigwaitinfo(STOPPING)
        if told.si_signo == signal.SIGTERM and told.si_pid == parent:
            os._exit(0)
