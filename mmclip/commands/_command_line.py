"""What all commands share: options, the one way to fail, the last lines.

A command is a module of this package with ``parse_args(argv)`` and
``main(argv=None) -> int``. Its docstring describes it, with the first line in
the list of commands. It imports at the top only what costs nothing, so that
``--help`` answers at once, and the rest after its arguments are parsed.
"""

import argparse
import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mmclip.errors import (
    ArgumentError,
    CheckpointError,
    ConfigError,
    DataError,
    NonFiniteLossError,
    RequirementError,
)

# What a user can mend is said in a sentence; all else is a bug, and keeps
# its traceback.
EXPECTED = (
    ArgumentError,
    CheckpointError,
    ConfigError,
    DataError,
    NonFiniteLossError,
    OSError,
    RequirementError,
)
Main = Callable[[list[str] | None], int]


def command(main: Main) -> Main:
    """Let a command end in one way, whatever happens.

    Returns:
        Callable: ``main``, which returns the exit code: 1 after ``error: ...``
        on stderr, 2 for arguments that make no sense, 128 + number for
        signals.
    """

    @functools.wraps(main)
    def _main(argv: list[str] | None = None) -> int:
        try:
            return main(argv)
        except BrokenPipeError:  # of `| head`; nothing is left to be written
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except EXPECTED as error:
            if _is_first_to_say_it():
                print(f'error: {error}', file=sys.stderr, flush=True)
            return 1
        except SystemExit as end:  # of argparse, or of a run that was stopped
            if not isinstance(end.code, int):
                raise
            return end.code
        except KeyboardInterrupt:
            return 128 + signal.SIGINT

    return _main


class Parser(argparse.ArgumentParser):
    """argparse's, with the options that several commands have."""

    def __init__(self, name: str, doc: str | None, examples: str):
        """Create a parser.

        Args:
            name (str): ``__name__`` of the command's module.
            doc (str | None): Its ``__doc__``.
            examples (str): Command lines, with ``%(prog)s`` for what was
                typed, and what else stands at the end of the help.
        """
        super().__init__(
            prog=_typed(name),
            description=doc,
            epilog=f'examples:\n{examples}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse arguments, then complete what takes an import to know."""
        args = self.parse_args(argv)
        if getattr(args, 'cfg_options', None):
            try:
                args.cfg_options = parse_values(args.cfg_options)
            except ArgumentError as error:
                self.error(f'argument --cfg-options: {error}')
        if 'device' in args and args.device is None:
            import torch

            args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if 'local_rank' in args:
            mpi = os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', args.local_rank)
            os.environ.setdefault('LOCAL_RANK', mpi)
        return args

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and end with code 2."""
        self.exit(2, f'error: {message}\nsee {self.prog} --help\n')

    def add_cfg_options(self, example: str) -> None:
        """Add ``--cfg-options KEY=VALUE ...``, a dict as mmengine has it."""
        self.add_argument(
            '--cfg-options',
            nargs='+',
            action='extend',
            metavar='KEY=VALUE',
            help=f'override the config, such as {example}',
        )

    def add_device(self, what: str) -> None:
        """Add ``--device``, by default a GPU if there is one."""
        self.add_argument(
            '--device',
            help=f'where {what} runs (default: cuda if there is a GPU)',
        )

    def add_force(self, what: str = 'OUT if it exists') -> None:
        """Add ``--force``, to overwrite what is there."""
        self.add_argument(
            '--force', action='store_true', help=f'overwrite {what}'
        )

    def add_launcher(self, *choices: str) -> None:
        """Add ``--launcher``, and what launchers of other processes pass."""
        self.add_argument(
            '--launcher',
            choices=['none', *(choices or ('pytorch', 'slurm', 'mpi'))],
            default='none',
            help='how the processes were started',
        )
        self.add_argument(
            '--local_rank',
            '--local-rank',
            default='0',
            help=argparse.SUPPRESS,
        )


def parse_values(options: Sequence[str]) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` as mmengine's ``DictAction`` does.

    That itself is not for a parser which is to answer at once: it comes with
    all of mmengine.

    Raises:
        ArgumentError: If there is no ``=``, or a bracket is not closed.
    """
    from mmengine.config import DictAction

    values = {}
    for option in options:
        key, equals, value = option.partition('=')
        if not (key and equals):
            raise ArgumentError(f'{option!r} is not KEY=VALUE.')
        try:
            values[key] = DictAction._parse_iterable(value)
        except AssertionError as error:
            raise ArgumentError(f'{option!r}: {error}.') from None
    return values


def print_written(*files: tuple[Path | str, str], then: str = '') -> None:
    """Print the last lines of a command that writes files.

    Args:
        files (tuple): Each one's path, and what it is.
        then (str): The command to type next, if there is one.
    """
    for path, what in files:
        print(f'wrote {path} ({what})')
    if then:
        print(f'next: {then}')


def command_line(name: str, *arguments: object) -> str:
    """A command line to type, in the way in which this one was typed.

    Args:
        name (str): A command that is a file of ``tools/``, too.
        arguments (object): Its arguments.
    """
    by_path = _typed('').startswith('python ')
    start = f'python tools/{name}.py' if by_path else f'mmclip {name}'
    return ' '.join([start, *(shlex.quote(str(a)) for a in arguments)])


def _typed(module: str) -> str:
    """What the user typed for a command."""
    program = Path(sys.argv[0])
    if program.suffix == '.py' and program.name != '__main__.py':
        return f'python {program}'
    return f'mmclip {module.rpartition(".")[2].replace("_", "-")}'


def _is_first_to_say_it() -> bool:
    """Whether no other process of torchrun's on this machine has said it.

    All of them fail where the config or the data is wrong, and any one alone
    where a file is damaged that it alone reads.
    """
    file = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if not file:
        return True
    try:  # in a folder for each process, in one for the run
        Path(file).parent.with_name('said').touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
