"""What all commands share: options, error exits and final lines.

A command is a module of this package with ``parse_args(argv)`` and
``main(argv=None) -> int``. Its docstring is the text of its ``--help``, and
the first line its entry in ``mmclip --help``. Slow imports come after its
arguments are parsed, so that ``--help`` answers at once.
"""

import argparse
import errno
import functools
import math
import os
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mmclip.errors import EXPECTED, ArgumentError, did_you_mean

DEVICES = 'cpu', 'cuda'
# What torch says when data workers fill /dev/shm.
FULL_MEMORY = re.compile(
    r'out of shared memory|allocate shared memory.*No space left'
)
Main = Callable[..., int]  # of (argv: list[str] | None = None)
# What each launcher puts into the environment of its processes, and what
# starts them; for torch, it is our command `launch`.
LAUNCHERS: dict[str, tuple[tuple[str, ...], str]] = {
    'none': ((), ''),
    'pytorch': (('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'), ''),
    'slurm': (('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'), 'srun'),
    'mpi': (
        ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'MASTER_ADDR'),
        'mpirun -x MASTER_ADDR=HOST',
    ),
}


def command(main: Main) -> Main:
    """Turn errors and signals of a command into exit codes.

    Returns:
        Callable: ``main``, which returns the exit code: after ``error: ...``
        on stderr 2 if the arguments are invalid, and 1 otherwise; 128 +
        number for signals.
    """

    @functools.wraps(main)
    def _main(argv: list[str] | None = None) -> int:
        # From mmcv-lite, of an operator that no model of ours has.
        warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeform')
        try:
            try:
                return main(argv)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as `| head`, has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except EXPECTED as error:
            if _is_first_to_say_it():
                print(f'error: {_say(error)}', file=sys.stderr, flush=True)
            return 2 if isinstance(error, ArgumentError) else 1
        except RuntimeError as error:
            if not FULL_MEMORY.search(f'{error} {error.__cause__}'):
                raise
            if _is_first_to_say_it():
                print(
                    'error: /dev/shm, through which data workers pass images, '
                    "is full. Use fewer workers (num_workers of the config's "
                    'dataloaders), or make it larger (docker run '
                    '--shm-size=8g).',
                    file=sys.stderr,
                    flush=True,
                )
            return 1
        except SystemExit as end:  # from argparse, or from a stopped run
            if not isinstance(end.code, int):
                raise
            return end.code
        except KeyboardInterrupt:
            return 128 + signal.SIGINT

    return _main


def _say(error: BaseException) -> str:
    """Word an error, and for a full disk say what to do."""
    full = errno.ENOSPC, errno.EDQUOT
    if not isinstance(error, OSError) or error.errno not in full:
        return str(error)
    what = error.strerror
    if error.filename:
        what = f'{error.filename} could not be written ({what})'
    return (
        f'{what}. Make room on that disk, or write to another one, and type '
        'the same command again.'
    )


class Parser(argparse.ArgumentParser):
    """An argument parser with the options that several commands share."""

    def __init__(self, name: str, doc: str | None, examples: str):
        """Create a parser.

        Args:
            name (str): The ``__name__`` of the command's module.
            doc (str | None): Its ``__doc__``.
            examples (str): Command lines, with ``%(prog)s`` for the
                command as it was typed, and any notes to end the help with.
        """
        self.name = _name(name)
        super().__init__(
            prog=_typed(name),
            description=doc,
            epilog=f'examples:\n{examples}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse arguments, then fill in defaults that need an import."""
        args = self.parse_args(argv)
        if getattr(args, 'cfg_options', None):
            try:
                args.cfg_options = parse_values(args.cfg_options)
            except ArgumentError as error:
                self.error(f'argument --cfg-options: {error}')
        if 'device' in args:
            import torch

            default = 'cuda' if torch.cuda.is_available() else 'cpu'
            args.device = args.device or default
            try:
                torch.empty(0, device=args.device)
            except (AssertionError, RuntimeError) as error:
                reason = str(error).partition('\n')[0]
                kind = args.device.partition(':')[0]
                if kind in ('cuda', 'gpu') and default == 'cpu':
                    reason = 'there is no GPU here: use --device cpu'
                elif kind not in DEVICES:
                    near = did_you_mean(kind.replace('gpu', 'cuda'), DEVICES)
                    reason = f'use cpu or cuda{near}'
                self.error(f'argument --device: {args.device!r}: {reason}')
        if 'launcher' in args:
            self._check_launcher(args.launcher)
            mpi = os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', args.local_rank)
            os.environ.setdefault('LOCAL_RANK', mpi)
        return args

    def _check_launcher(self, launcher: str) -> None:
        needed, start = LAUNCHERS[launcher]
        missing = [name for name in needed if name not in os.environ]
        if not missing:
            return
        line = f'{start} {self.prog} ... --launcher {launcher}'
        if launcher == 'pytorch':
            line = command_line('launch', '--nproc_per_node', 'N', self.name)
            line += ' ...'
        self.error(
            f'--launcher {launcher} is for processes that it has started, '
            f'but {missing[0]} is not in the environment: type {line}'
        )

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments and exit with code 2."""
        said = f'error: {message}\nsee {self.prog} --help\n'
        self.exit(2, said if _is_first_to_say_it() else None)

    def add_cfg_options(self, example: str) -> None:
        """Add ``--cfg-options KEY=VALUE ...``, parsed as mmengine does."""
        self.add_argument(
            '--cfg-options',
            nargs='+',
            action='extend',
            metavar='KEY=VALUE',
            help=f'override values of the config, such as {example}',
        )

    def add_device(self, what: str) -> None:
        """Add ``--device``, which defaults to a GPU if there is one."""
        self.add_argument(
            '--device',
            help=f'where {what} runs (default: cuda if there is a GPU)',
        )

    def add_force(self, what: str = 'OUT if it exists') -> None:
        """Add ``--force``, to overwrite existing files."""
        self.add_argument(
            '--force', action='store_true', help=f'overwrite {what}'
        )

    def add_templates(self) -> None:
        """Add ``--templates``, the texts of class names."""
        self.add_argument(
            '--templates',
            default='openai',
            metavar='openai|simple|FILE',
            help="OpenAI's 80 templates, its best 7, or a text file with one "
            'template per line, with {} for the name (default: %(default)s)',
        )

    def add_launcher(self, *choices: str) -> None:
        """Add ``--launcher``, and the rank that launchers pass."""
        self.add_argument(
            '--launcher',
            choices=['none', *(choices or ('pytorch', 'slurm', 'mpi'))],
            default='none',
            help='what starts the processes (default: %(default)s)',
        )
        self.add_argument(
            '--local_rank',
            '--local-rank',
            default='0',
            help=argparse.SUPPRESS,
        )


def parse_values(options: Sequence[str]) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` as mmengine's ``DictAction`` does.

    Importing ``DictAction`` imports all of mmengine, which would slow down
    ``--help``; so it is not an action of the parser.

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


def positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Make a type of arguments: numbers of a kind, such as int, above 0."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f'{text} is not above 0')
        return value

    parse.__name__ = kind.__name__
    return parse


def check_files(args: argparse.Namespace) -> None:
    """Refuse configs and checkpoints that are missing, before slow imports.

    Raises:
        FileNotFoundError: If one is missing.
    """
    for name in ('config', 'checkpoint', 'resume'):
        path = str(vars(args).get(name) or 'auto')
        if path == 'auto' or ':' in path:  # as in URLs
            continue
        if not Path(path).expanduser().exists():
            what = 'Config' if name == 'config' else 'Checkpoint'
            raise FileNotFoundError(f'{what} {path} does not exist.')


def print_written(*files: tuple[Path | str, str], then: str = '') -> None:
    """Print the last lines of a command that writes files.

    Args:
        files (tuple): The path of each file, and what it is.
        then (str): The command to type next, if there is one.
    """
    for path, what in files:
        print(f'wrote {path} ({what})')
    if then:
        print(f'next: {then}')


def command_line(name: str, *arguments: object) -> str:
    """Return a command line in the style in which this command was typed.

    Args:
        name (str): A command that is also a file in ``tools/`` itself.
        arguments (object): Its arguments.
    """
    start = f'mmclip {name}'
    if _typed('').startswith('python '):
        above = Path(sys.argv[0]).parents
        tools = next((p for p in above if p.name == 'tools'), above[0])
        start = f'python {shlex.quote(str(tools / name))}.py'
    return ' '.join([start, *(shlex.quote(str(a)) for a in arguments)])


def _typed(module: str) -> str:
    """Return what the user typed to start a command."""
    program = Path(sys.argv[0])
    if program.suffix == '.py' and program.name != '__main__.py':
        return f'python {program}'
    return f'mmclip {_name(module)}'


def _name(module: str) -> str:
    """Return the name of the command of a module."""
    return module.rpartition('.')[2].replace('_', '-')


def _is_first_to_say_it() -> bool:
    """Return whether this process is the first of torchrun's to fail here.

    A wrong config fails all of them, and one message is enough; a damaged
    file fails only the process that reads it.
    """
    file = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if not file:
        return True
    try:  # each process has a folder in the folder of the run
        Path(file).parent.with_name('said').touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
