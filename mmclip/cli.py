"""The command ``mmclip``, which finds a command by name and runs it."""

import ast
import importlib
import sys
from pathlib import Path

from mmclip.errors import did_you_mean
from mmclip.version import __version__

FOLDER = Path(__file__).parent / 'commands'
USAGE = """usage: mmclip COMMAND [arguments]
       mmclip COMMAND --help
       mmclip --version
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command, or list them all.

    Args:
        argv (list[str] | None): The command's name and its arguments.
            Defaults to None: those of this process.

    Returns:
        int: The exit code.
    """
    name, *rest = (sys.argv[1:] if argv is None else argv) or ['--help']
    if name in ('-h', '--help'):
        print(USAGE)
        print('\n'.join(f'  {n:19}{what}' for n, what in commands().items()))
        return 0
    if name == '--version':
        print(f'mmclip {__version__}')
        return 0
    if name not in commands():
        print(
            f'error: mmclip has no command {name!r}'
            f'{did_you_mean(name, commands())}\nsee mmclip --help',
            file=sys.stderr,
        )
        return 2
    module = f'mmclip.commands.{name.replace("-", "_")}'
    return importlib.import_module(module).main(rest)


def commands() -> dict[str, str]:
    """Return the first line of each command's docstring, by name."""
    return {
        path.stem.replace('_', '-'): _first_line(path)
        for path in sorted(FOLDER.glob('[!_]*.py'))
    }


def _first_line(path: Path) -> str:
    source = path.read_text(encoding='utf-8')
    return (ast.get_docstring(ast.parse(source)) or '').partition('\n')[0]
