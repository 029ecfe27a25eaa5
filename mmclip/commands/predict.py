"""Classify images with the model of a run."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmclip.commands._command_line import (
    Parser,
    command,
    print_written,
)

EXAMPLES = """\
  %(prog)s runs/photos new/
  %(prog)s runs/photos new/ --csv out.csv --html out.html
  %(prog)s runs/photos runs/photos/predictions.csv --root photos/
  find new -name '*.jpg' | %(prog)s runs/photos -
  # without training: names of classes for a CLIP model
  %(prog)s ViT-B-32/openai new/ --classes cat,dog
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add(
        'model',
        help='the folder of a run, the file of a classifier that mmclip '
        "trained or made, or, with --classes, open_clip's NAME/TAG or a "
        'folder with open_clip_config.json',
    )
    add(
        'images',
        help='an image, a folder, a list (.txt, or .csv with a column path), '
        'or - for a list on standard input',
    )
    add(
        '--root',
        type=Path,
        metavar='DIR',
        help="the folder that a list's paths begin at (default: the list's "
        'or, if none is there, the current one)',
    )
    add('--csv', type=Path, help='a table of the answers')
    add('--html', type=Path, help='a page with the images and answers')
    add(
        '--classes',
        metavar='FILE|NAME,NAME,...',
        help='the classes of a CLIP model: a text file with one name per '
        'line, or names',
    )
    parser.add_device('the model')
    parser.add_force('--csv and --html if they exist')
    args = parser.parse(argv)
    if args.csv and args.csv == args.html:
        parser.error('--csv and --html must be two files')
    return args


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.checkpoint.files.paths import check_free, is_file

    inputs = [args.model]
    inputs += filter(is_file, (args.classes or '', args.images))
    for out in filter(None, (args.csv, args.html)):
        check_free(out, *inputs, force=args.force)
    from mmclip.api import load
    from mmclip.errors import DataError
    from mmclip.predicting.inputs import find_images
    from mmclip.predicting.predictions import SHOWN, printable

    paths = find_images(args.images, args.root)
    model = load(args.model, args.classes, device=args.device)
    found = model.answer(paths)
    written = []
    if args.csv:
        found.to_csv(args.csv)
        written.append((args.csv, 'the answers'))
    if args.html:
        found.to_html(args.html, f'{args.images}, as {args.model} sees it')
        written.append((args.html, 'a page that shows them'))
    print(repr(found) if len(found) <= SHOWN else found.summary())
    print_written(*written)
    if unreadable := found.unreadable:
        sys.stdout.flush()
        for answer in unreadable:
            print(printable(answer.note), file=sys.stderr)
        raise DataError(
            f'{len(unreadable):,} of {len(found):,} images cannot be read and '
            'have no answer.'
        )
    return 0
