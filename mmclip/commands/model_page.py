"""Update the parameter counts and FLOPs of the model page.

Counts the parameters and multiply-accumulates of every config listed in
configs/clip/metafile.yml, and writes them there and into the results table of
configs/clip/README.md. Needs a checkout of mmclip.
"""

import argparse
from collections.abc import Sequence

from mmclip.commands._command_line import Parser, command, print_written

EXAMPLES = """\
  %(prog)s --check
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; fail if a file would change',
    )
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.analysis.model_page import checkout, fill_in_model_page
    from mmclip.errors import DataError

    root = checkout()
    for path, text in fill_in_model_page(root).items():
        if (root / path).read_text(encoding='utf-8') == text:
            continue
        if args.check:
            raise DataError(f'{path} is out of date; run mmclip model-page.')
        (root / path).write_text(text, encoding='utf-8')
        print_written((path, 'with the counted numbers'))
    return 0
