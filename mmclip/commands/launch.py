"""torchrun that hands signals on.

    python tools/launch.py --nproc_per_node=8 tools/train.py CONFIG \
        --launcher pytorch

The options are torchrun's. dist_train.sh and dist_test.sh call this. After a
signal the exit code is 128 + its number, as a shell has it. A process that
fails says why itself.
"""

import os
import signal
import sys
from argparse import Namespace
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

# That of mmclip/engine/resume/signals.py, whose import would take its time.
STOPPING = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP
STOPPED = [128 + number for number in STOPPING]


def main() -> None:
    # A step with all its passes, and a checkpoint, may take more than 30.
    os.environ.setdefault('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', '1800')
    args = parse_args(sys.argv[1:])
    hand_signals_on(args)
    try:
        run(args)
    except ChildFailedError as error:
        codes = {rank: f.exitcode for rank, f in error.failures.items()}
        if stopped := [code for code in codes.values() if code in STOPPED]:
            sys.exit(stopped[0])  # one process heard of it, and told the rest
        killed = [r for r, code in codes.items() if code == -signal.SIGKILL]
        if not killed:
            sys.exit(1)
        sys.exit(
            f'error: rank {killed[0]} was killed by SIGKILL: for want of '
            'memory (see dmesg), or by torchrun, if another rank failed and '
            'this one did not end.'
        )
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


if __name__ == '__main__':
    main()
