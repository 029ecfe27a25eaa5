"""Write the page of a run, or of two runs side by side.

One file (HTML) that shows how good a run's classifier is, where it fails and
which labels are doubtful. It needs no network.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmclip.commands._command_line import Parser, command, print_written

EXAMPLES = """\
  %(prog)s runs/photos
  %(prog)s runs/photos runs/other --out comparison.html
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('run', type=Path, help='the folder of a run of mmclip adapt')
    add('other', type=Path, nargs='?', help='a second run, to compare with')
    add(
        '--out',
        type=Path,
        help="the page to write (default: report.html in the run's folder, "
        'which is replaced; comparison.html for two runs)',
    )
    parser.add_force('--out if it exists')
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.adapting.run_folder import RunFolder
    from mmclip.checkpoint.files.paths import check_free
    from mmclip.report.page import write_report

    if args.out:
        check_free(args.out, force=args.force)
    other = RunFolder(args.other) if args.other else None
    page = write_report(RunFolder(args.run), other, args.out)
    print_written((page, 'open it in a browser'))
    return 0
