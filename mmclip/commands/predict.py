"""Classify images with the model of a run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmclip.commands._command_line import Parser, command, print_written

EXAMPLES = """\
  %(prog)s runs/photos new/
  %(prog)s runs/photos new/ --csv out.csv --html out.html
  find new -name '*.jpg' | %(prog)s runs/photos -
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('model', help='the folder of a run, or the file of a classifier')
    add('images', help='an image, a folder, a list (.txt), or - for stdin')
    add('--csv', type=Path, help='a table of the answers')
    parser.add_device('the model')
    parser.add_force('--csv if it exists')
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.api import load
    from mmclip.checkpoint.files.paths import check_free
    from mmclip.predicting.inputs import find_images

    if args.csv:
        check_free(args.csv, force=args.force)
    paths = find_images(args.images)
    found = load(args.model, device=args.device).predict_all(paths)
    for answer in found:
        note = '' if answer.is_sure else '  (not sure)'
        print(f'{answer.path}: {answer.name} {answer.probability:.1%}{note}')
    if args.csv:
        found.to_csv(args.csv)
        print_written((args.csv, f'{len(found)} answers'))
    return 0
