"""Train a tiny model for many iterations; print memory and open files."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from mmclip.commands._command_line import (
    Parser,
    command,
    positive,
    print_written,
)
from mmclip.markdown import markdown_table

EXAMPLES = """\
  %(prog)s --workers 2
  %(prog)s --iterations 20000 --out long_run.json
"""
COLUMNS = {
    'iteration': 'iteration',
    'memory': 'main process (MiB)',
    'memory_of_workers': 'workers (MiB)',
    'open_files': 'open files',
    'open_files_of_workers': 'open files of workers',
    'log_length': 'values logged',
    'log_microseconds': 'logging (µs per iteration)',
    'checkpoint_size': 'newest checkpoint (KiB)',
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add(
        '--iterations',
        type=positive(int),
        default=2000,
        help='default: %(default)s',
    )
    add(
        '--workers',
        type=int,
        default=0,
        help='data workers (default: %(default)s)',
    )
    add(
        '--rows',
        type=positive(int),
        default=10,
        help='measurements (default: %(default)s)',
    )
    add('--out', type=Path, help='a JSON file for the measurements')
    parser.add_force()
    args = parser.parse(argv)
    if args.workers < 0:
        parser.error('--workers must be 0 or more')
    if args.rows > args.iterations:
        parser.error(
            f'{args.rows} rows need as many iterations, but there are '
            f'{args.iterations}: change --rows or --iterations'
        )
    return args


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.analysis.long_run import train_long
    from mmclip.checkpoint.files.paths import check_free

    if args.out:
        check_free(args.out, force=args.force)
    rows = train_long(args.iterations, args.workers, args.rows)
    cells = ([row[key] for key in COLUMNS] for row in rows)
    align = 'r' * len(COLUMNS)
    print(markdown_table(list(COLUMNS.values()), cells, align), end='')
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1))
        print_written((args.out, 'the measurements'))
    return 0
