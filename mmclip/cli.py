"""The command ``mmclip``, which finds a command by name and runs it."""

import ast
import difflib
import importlib
import sys
from pathlib import Path

from mmclip.commands._command_line import command
from mmclip.version import __version__

FOLDER = Path(__file__).parent / 'commands'
USAGE = """usage: mmclip COMMAND [arguments]
       mmclip COMMAND --help
       mmclip --version
"""
# Files of tools/ that are not called like their command.
ALIASES = {
    'evaluate-robustness': 'robustness',
    'get-flops': 'flops',
    'gpu': 'bench',
    'inspect-checkpoint': 'inspect',
    'linear-probe': 'probe',
    'mmcls-to-openclip': 'export',
    'openclip-to-mmcls': 'convert',
    'training-cost': 'cost',
    'zero-shot-head': 'zero-shot',
}


@command
def main(argv: list[str] | None = None) -> int:
    """Run a command, or list them all.

    Args:
        argv (list[str] | None): The command's name and its arguments.
            Defaults to None: those of this process.

    Returns:
        int: The exit code.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ('-h', '--help'):
        lines = [f'  {name:19}{what}' for name, what in commands().items()]
        print(USAGE, *lines, sep='\n', file=None if argv else sys.stderr)
        return 0 if argv else 2
    name, *rest = argv
    if name == '--version':
        print(f'mmclip {__version__}')
        return 0
    if name not in commands():
        print(f'error: {no_command(name)}\nsee mmclip --help', file=sys.stderr)
        return 2
    module = f'mmclip.commands.{name.replace("-", "_")}'
    return importlib.import_module(module).main(rest)


def no_command(name: str) -> str:
    """Say that there is no such command, and which one may be meant."""
    known = dict.fromkeys(commands()) | ALIASES
    typed = Path(name).stem.replace('_', '-')
    near = difflib.get_close_matches(typed, sorted(known), 1)
    meant = [f' (did you mean {known[n] or n!r}?)' for n in near]
    return f'mmclip has no command {name!r}{"".join(meant)}'


def commands() -> dict[str, str]:
    """Return the first line of each command's docstring, by name."""
    return {
        path.stem.replace('_', '-'): _first_line(path)
        for path in sorted(FOLDER.glob('[!_]*.py'))
    }


def _first_line(path: Path) -> str:
    source = path.read_text(encoding='utf-8')
    return (ast.get_docstring(ast.parse(source)) or '').partition('\n')[0]
