"""Start a command in several processes, as torchrun does.

Takes torchrun's options, then a command of mmclip, or a program and its
--launcher option. Stopping signals are passed on, and the exit code is then
128 + the signal's number, as in a shell. A process that fails prints the
reason itself, and its exit code is handed on.
"""

import os
import re
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mmclip.cli import commands, no_command
from mmclip.commands._command_line import Parser, command
from mmclip.errors import ArgumentError

EXAMPLES = """\
  %(prog)s --nproc_per_node 8 train CONFIG
  # the first of two machines
  %(prog)s --nproc_per_node 8 --nnodes 2 --node_rank 0 \\
      --master_addr 10.0.0.1 train CONFIG
  %(prog)s --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch
"""
# The commands that take --launcher.
DISTRIBUTED = 'probe', 'robustness', 'test', 'train'
# As in mmclip/engine/resume/signals.py, whose import is slow.
STOPPING = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP
STOPPED = [128 + number for number in STOPPING]


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser(__name__, __doc__, EXAMPLES)
    parser.usage = '%(prog)s [options of torchrun] COMMAND [arguments]'
    if not argv or argv[0] in ('-h', '--help'):
        parser.parse_args(['--help'])
    from torch.distributed import run

    def error(message: str) -> NoReturn:
        if 'training_script' in message:
            message = 'a COMMAND is missing, such as train CONFIG'
        parser.error(message)

    torchruns = run.get_args_parser()
    torchruns.error = error  # type: ignore[method-assign]
    args = torchruns.parse_args(list(argv))
    for option in ('nproc_per_node', 'nnodes'):  # torch's own asserts, late
        value = str(getattr(args, option))
        if re.search(r'(^|:)(-|0+($|:))', value):
            parser.error(f'argument --{option}: {value} is not above 0')
    name = args.training_script
    if args.module or args.no_python:
        return args
    if name in DISTRIBUTED:
        args.training_script_args = [
            args.training_script,
            *args.training_script_args,
            '--launcher',
            'pytorch',
        ]
        args.module, args.training_script = True, 'mmclip'
    elif name in commands():
        parser.error(f'{name} runs in one process: type mmclip {name}')
    elif not Path(name).is_file():
        parser.error(f'{no_command(name)}, and there is no file of this name')
    return args


@command
def main(argv: list[str] | None = None) -> int:
    # The last step and its checkpoint may take longer than torchrun's 30 s.
    os.environ.setdefault('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', '1800')
    args = parse_args(argv)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import (
        ChildFailedError,
    )
    from torch.distributed.run import config_from_args, run

    hand_signals_on(args)
    try:
        config_from_args(args)
    except (AssertionError, ValueError) as error:
        raise ArgumentError(f'Wrong options of torchrun: {error}.') from error
    try:
        run(args)
    except ChildFailedError as error:
        codes = {rank: f.exitcode for rank, f in error.failures.items()}
        if stopped := [code for code in codes.values() if code in STOPPED]:
            return stopped[0]  # one process got the signal and told the rest
        killed = [r for r, code in codes.items() if code == -signal.SIGKILL]
        if killed:
            print(
                f'error: rank {killed[0]} was killed by SIGKILL: it ran out '
                'of memory (see dmesg), or another rank failed and torchrun '
                'killed this one.',
                file=sys.stderr,
            )
        # Those below zero were ended by torchrun, since another one failed.
        return next((code for code in codes.values() if code > 0), 1)
    except SignalException as error:
        for number in STOPPING:  # only the exit code remains
            signal.signal(number, signal.SIG_IGN)
        kill_children()
        return 128 + error.sigval
    return 0


def hand_signals_on(args: Namespace) -> None:
    """Make torchrun pass SIGUSR1 on too, but no signal that is ignored.

    ``nohup`` ignores SIGHUP, for example. SIGINT is passed on even though
    shells ignore it for background jobs.
    """
    names = [*args.signals_to_handle.replace(' ', '').split(','), 'SIGUSR1']
    ignored = {
        number.name
        for number in signal.valid_signals()
        if signal.getsignal(number) is signal.SIG_IGN
        and isinstance(number, signal.Signals)  # has a name
    }
    args.signals_to_handle = ','.join(
        name
        for name in dict.fromkeys(names)
        if name not in ignored - {'SIGINT'}
    )


def kill_children() -> None:
    """Kill processes left by repeated signals, or by one during start-up."""
    for children in Path('/proc/self/task').glob('*/children'):
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)
