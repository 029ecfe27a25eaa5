"""torchrun that hands signals on, and says last of all why a run died.

    python tools/launch.py --nproc_per_node=8 tools/train.py CONFIG \
        --launcher pytorch

The options are torchrun's. dist_train.sh and dist_test.sh call this. After a
signal the exit code is 128 + its number, as a shell has it.
"""

import os
import signal
import socket
import sys
from argparse import Namespace
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import (
    ChildFailedError,
    ProcessFailure,
)
from torch.distributed.run import parse_args, run

# That of mmclip/engine/resume/signals.py, whose import would take its time.
STOPPING = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP
STOPPED = [128 + number for number in STOPPING]
PATIENCE = 30  # seconds, in which torchrun lets processes end by themselves


def main() -> None:
    # A step with all its passes, and a checkpoint, may take more than 30.
    os.environ.setdefault('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', '1800')
    args = parse_args(sys.argv[1:])
    hand_signals_on(args)
    try:
        run(args)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        if stopped := [code for code in codes if code in STOPPED]:
            sys.exit(stopped[0])  # one process heard of it, and told the rest
        sys.exit(explain(error))
    except SignalException as error:
        for number in STOPPING:  # nothing but the exit code is left to do
            signal.signal(number, signal.SIG_IGN)
        kill_children()
        sys.exit(128 + error.sigval)
    except KeyboardInterrupt:  # before torchrun listens
        sys.exit(128 + signal.SIGINT)


def hand_signals_on(args: Namespace) -> None:
    """Add SIGUSR1 to what torchrun hands on; leave out what ``nohup`` ignores.

    Ctrl-C is ignored in the background, and handed on if it comes all the
    same.
    """
    names = [*args.signals_to_handle.replace(' ', '').split(','), 'SIGUSR1']
    ignored = {
        number.name
        for number in signal.valid_signals()
        if signal.getsignal(number) is signal.SIG_IGN
        and isinstance(number, signal.Signals)  # one with a name
    }
    args.signals_to_handle = ','.join(
        name
        for name in dict.fromkeys(names)
        if name not in ignored - {'SIGINT'}
    )


def kill_children() -> None:
    """End what a third signal left, or one while processes were started."""
    for children in Path('/proc/self/task').glob('*/children'):
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)


def explain(error: ChildFailedError) -> str:
    """Which process died first, and of what.

    A process that was killed left the others with errors of their own, and
    so did the first exception; SIGTERM is what torchrun stops the rest with,
    and SIGKILL where that does not help.
    """
    failures = dict(error.failures)
    first = min(failure.timestamp for failure in failures.values())
    stuck = {
        rank: failures.pop(rank)
        for rank, failure in error.failures.items()
        if failure.exitcode == -signal.SIGKILL
        and failure.timestamp - first >= PATIENCE - 5
    }
    rank, failure = min(failures.items(), key=lambda i: _order(i[1]))
    where = f'rank {rank} (pid {failure.pid} on {socket.gethostname()})'
    rest = ''.join(
        f' Rank {rank} (pid {failure.pid}) did not end when it was told to, '
        'and was killed: it was stopped, or stuck.'
        for rank, failure in stuck.items()
    )
    if _was_killed(failure):
        return (
            f'error: {where} was killed by {failure.signal_name()}, and the '
            'others were stopped. Where nobody did that, look for too little '
            f'memory (dmesg) or time.{rest}'
        )
    cause = _cause(failure)
    return f'error: {where} failed, and the others were stopped: {cause}{rest}'


def _order(failure: ProcessFailure) -> tuple[bool, bool, float]:
    if os.path.exists(failure.error_file):
        written = os.stat(failure.error_file).st_mtime
    else:
        written = float(failure.timestamp)
    stopped = failure.exitcode == -signal.SIGTERM
    return stopped, not _was_killed(failure), written


def _was_killed(failure: ProcessFailure) -> bool:
    """By a signal; not where it came while an exception ended the process."""
    return failure.exitcode < 0 and not os.path.exists(failure.error_file)


def _cause(failure: ProcessFailure) -> str:
    """The exception, which torch's ``record`` wrote."""
    message = failure.error_file_data.get('message')
    if not isinstance(message, dict):  # none was written
        return f'exit code {failure.exitcode}; its messages are above.'
    return message['message'].strip()


if __name__ == '__main__':
    main()
