"""Write the page of a run, or of two runs side by side.

One file (HTML) that shows how good a run's classifier is, where it fails and
which labels are doubtful. It needs no network. It shows pictures of the images
in --root DIR, and of no other file, whatever the run names.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmclip.commands._command_line import Parser, command, print_written

EXAMPLES = """\
  %(prog)s runs/photos --root photos/
  %(prog)s runs/photos runs/other --root photos/ --out comparison.html
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
        'or comparison.html for two runs, which is replaced if it exists)',
    )
    add(
        '--root',
        type=Path,
        metavar='DIR',
        help='the folder of the images, whose pictures the page shows '
        '(default: no pictures)',
    )
    parser.add_force('--out if it exists')
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.adapting.run_files.run_folder import RunFolder
    from mmclip.checkpoint.files.paths import check_free
    from mmclip.errors import ArgumentError

    if args.root and not args.root.is_dir():
        raise ArgumentError(f'--root {args.root} is not a folder.')
    if args.out:
        check_free(args.out, force=args.force)
    from mmclip.predicting.predictions import printable
    from mmclip.report.page import write_report

    other = RunFolder(args.other) if args.other else None
    folder = RunFolder(args.run)
    page = write_report(folder, other, args.out, root=args.root)
    if not args.root:
        had = printable(folder.read_metrics()['data']['root'])
        print(
            'without pictures: --root DIR adds those of the images in DIR '
            f'(the run had them in {had})'
        )
    print_written((page, 'open it in a browser'))
    return 0
