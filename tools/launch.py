"""torchrun that says in one line why a run died.

    python tools/launch.py --nproc_per_node=8 tools/train.py CONFIG \
        --launcher pytorch

The options are torchrun's. dist_train.sh and dist_test.sh call this. After
Ctrl-C the exit code is 130, as a shell has it.
"""

import os
import signal
import socket
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import (
    ChildFailedError,
    ProcessFailure,
)
from torch.distributed.run import parse_args, run


def main() -> None:
    # Ctrl-C ends a validation and writes a checkpoint first; 30 are too few.
    os.environ.setdefault('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', '1800')
    try:
        run(parse_args(sys.argv[1:]))
    except ChildFailedError as error:
        if any(f.exitcode == INTERRUPTED for f in error.failures.values()):
            sys.exit(INTERRUPTED)  # one process heard of it, and told the rest
        sys.exit(explain(error))
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            sys.exit(INTERRUPTED)
        raise


INTERRUPTED = 128 + signal.SIGINT


def explain(error: ChildFailedError) -> str:
    """Which process died first, and of what, in one line.

    A process that was killed left the others with errors of their own, and
    so did the first exception; SIGTERM is what torchrun stops the rest with.
    """
    rank, failure = min(error.failures.items(), key=lambda i: _order(i[1]))
    where = f'rank {rank} (pid {failure.pid} on {socket.gethostname()})'
    if _was_killed(failure):
        return (
            f'error: {where} was killed by {failure.signal_name()}, and the '
            'others were stopped. Where nobody did that, look for too little '
            'memory (dmesg) or time.'
        )
    return f'error: {where} failed, and the others were stopped: ' + _cause(
        failure
    )


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
    """The first line of the exception, which torch's ``record`` wrote."""
    message = failure.error_file_data.get('message')
    if not isinstance(message, dict):  # none was written
        return f'exit code {failure.exitcode}; its messages stand above.'
    return message['message'].splitlines()[0]


if __name__ == '__main__':
    main()
