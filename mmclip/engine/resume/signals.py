"""The signals with which people and schedulers end a run."""

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

# Ctrl-C; docker stop, kill and Slurm's time limit; Slurm's --signal; a closed
# terminal. Windows lacks some of them.
STOPPING = [
    signal.Signals[name]
    for name in ('SIGINT', 'SIGTERM', 'SIGUSR1', 'SIGHUP')
    if hasattr(signal, name)
]


class Stopped(SystemExit, KeyboardInterrupt):
    """The end of a run because of a signal, with exit code 128 + number.

    It is also a ``KeyboardInterrupt``, which Ctrl-C normally raises.

    Args:
        number (int): The number of the signal.
        checkpoint (str): The file to resume from.
    """

    def __init__(self, number: int, checkpoint: str):
        super().__init__(128 + number)
        self.checkpoint = checkpoint


def is_heard(number: signal.Signals) -> bool:
    """Tell whether to handle a signal.

    Signals that are ignored from the start, such as SIGHUP under ``nohup``,
    stay ignored. Ctrl-C is an exception, because shells make background jobs
    ignore it.
    """
    handler = signal.getsignal(number)
    if number == signal.SIGINT:
        return handler is not None
    return handler not in (signal.SIG_IGN, None)


def end_at_once(several: bool) -> None:
    """Let a signal end this process at once, until training begins.

    There is nothing to save yet, and an exception could be caught: mmengine
    would mistake it for an error in the config that it reads.

    Args:
        several (bool): Whether this is one of several processes. It may be
            waiting for one that is gone, and then only the default action
            ends it.
    """
    for number in STOPPING:
        if is_heard(number):
            signal.signal(number, signal.SIG_DFL if several else _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def obey_the_parent_alone(_: object = None) -> None:
    """Make a data worker ignore signals, except the parent's SIGTERM.

    A signal to a process group or a whole job also reaches workers, and a run
    without its workers cannot write a checkpoint. torch later sets its own
    handler for SIGTERM, so all signals are blocked.
    """
    ignored = set(STOPPING)
    if hasattr(signal, 'sigwaitinfo'):
        waiting = threading.Thread(target=_wait, args=[os.getppid()])
        waiting.daemon = True
        signal.pthread_sigmask(signal.SIG_BLOCK, ignored)
        waiting.start()
    else:  # macOS, where the sender of SIGTERM is unknown
        signal.pthread_sigmask(signal.SIG_BLOCK, ignored - {signal.SIGTERM})


def _wait(parent: int) -> None:
    while True:
        told = signal.sigwaitinfo(STOPPING)
        if told.si_signo == signal.SIGTERM and told.si_pid == parent:
            os._exit(0)
