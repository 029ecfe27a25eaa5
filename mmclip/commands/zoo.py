"""Write the table of open_clip's image towers and their rows in the metafile.

Compares every tower with open_clip's own, with random weights and two blocks
(whole towers if they are not vision transformers), and writes the largest
relative difference of each family to docs/zoo.md. Counts the parameters and
multiply-accumulates for every pair of name and tag, and writes them to
configs/clip/metafile_zoo.yml. Takes about ten minutes and needs a checkout of
mmclip.
"""

import argparse
from collections.abc import Sequence

from mmclip.commands._command_line import Parser, command, print_written

EXAMPLES = """\
  %(prog)s --only metafile
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('--only', choices=('metafile', 'table'), help='write only this')
    add(
        '--check',
        action='store_true',
        help='write nothing; fail if the metafile is out of date',
    )
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.analysis import zoo_pages
    from mmclip.analysis.model_page import between_marks, checkout
    from mmclip.errors import DataError

    root = checkout()
    rows, table = root / zoo_pages.METAFILE, root / zoo_pages.TABLE
    if args.check:
        if rows.read_text(encoding='utf-8') != zoo_pages.metafile():
            raise DataError(
                f'{zoo_pages.METAFILE} is out of date; run mmclip zoo.'
            )
        return 0
    if args.only != 'table':
        rows.write_text(zoo_pages.metafile(), encoding='utf-8')
        print_written((zoo_pages.METAFILE, 'the rows of pretrained towers'))
    if args.only != 'metafile':
        page = table.read_text(encoding='utf-8')
        text = between_marks(
            page, zoo_pages.BEGIN, zoo_pages.table(), zoo_pages.END
        )
        table.write_text(text, encoding='utf-8')
        print_written((zoo_pages.TABLE, 'with the table'))
    return 0
