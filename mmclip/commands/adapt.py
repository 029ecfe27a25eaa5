"""Make a classifier from your own images."""

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmclip.commands._command_line import (
    Parser,
    command,
    command_line,
    positive,
    print_written,
)

EXAMPLES = """\
  # one folder per class, in photos/ or in photos/train/ and photos/val/
  %(prog)s photos/
  %(prog)s labels.csv --root photos/ --shots 16
  %(prog)s photos/ --model ViT-L-14-336/openai --out runs/large
  %(prog)s photos/ --names NAMES.txt --templates TEMPLATES.txt
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add(
        'images',
        type=Path,
        help='a folder with one folder per class, a table (CSV) with the '
        'columns path and label, or a data set of Hugging Face on disk',
    )
    add(
        '--root',
        type=Path,
        metavar='DIR',
        help='the folder that the paths of a table are relative to (default: '
        "the table's)",
    )
    add(
        '--shots',
        type=positive(int),
        metavar='K',
        help='use K training images per class (default: all)',
    )
    add(
        '--model',
        default='ViT-B-32/openai',
        help="open_clip's NAME/TAG, a folder with open_clip_config.json, or "
        'a file that mmclip converted (default: %(default)s)',
    )
    add('--weights', help='a local file with the weights of NAME/TAG')
    add(
        '--out',
        type=Path,
        help="the run's folder (default: runs/ and the name of the images' "
        'folder)',
    )
    add(
        '--names',
        metavar='FILE|NAME,NAME,...',
        help='class names for the text tower, in the order of the folders, in '
        "a text file with one per line or here (default: the folders' names, "
        'with spaces for _ and -)',
    )
    parser.add_templates()
    add(
        '--also-test',
        type=Path,
        nargs='+',
        default=[],
        metavar='DIR',
        help='folders with the same class folders, where each method is '
        'measured too; they choose nothing',
    )
    add(
        '--method',
        metavar='NAME',
        help='take the classifier of this method, such as linear_probe, '
        'which timm can hold; the others are measured, too (default: the '
        'best)',
    )
    add(
        '--recipe',
        default='auto',
        metavar='auto|light|full|CONFIG',
        help='fine-tune the tower if there is time for it and it is worth '
        'it; never; in full; or as a config says that is based on a '
        "run's config.py (default: %(default)s)",
    )
    add(
        '--time',
        type=duration,
        default='10min',
        help="for auto's fine-tuning, such as 90s, 10min or 1h (default: "
        '%(default)s)',
    )
    add(
        '--seed',
        type=int,
        default=0,
        help='of splits, shots and training (default: 0)',
    )
    parser.add_force('the run in the folder')
    add('-v', '--verbose', action='store_true', help='show the whole log')
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if not args.images.exists():  # said before the imports
        raise FileNotFoundError(f'There is no file or folder {args.images}.')
    from mmclip.adapting.screen import stoppable
    from mmclip.from_images import adapt

    again = _again(args, argv)
    with stoppable(again):
        folder = adapt(
            args.images,
            args.out,
            model=args.model,
            weights=args.weights,
            names=args.names,
            templates=args.templates,
            also_test=args.also_test,
            method=args.method,
            recipe=args.recipe,
            seconds=args.time,
            seed=args.seed,
            shots=args.shots,
            root=args.root,
            force=args.force,
            verbose=args.verbose,
            command=again,
        )
    print_written(
        (folder.model, 'the classifier'),
        (folder.predictions, 'an answer per validation and test image'),
        (folder.report, 'the page; open it in a browser'),
        then=command_line('predict', folder.path, 'IMAGES'),
    )
    return 0


def duration(text: str) -> float:
    """Parse a time, such as ``90s``, into seconds."""
    match = re.fullmatch(r'([\d.]+)\s*(s|min|h)', text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f'must be a number with s, min or h, such as 10min; got {text!r}'
        )
    return float(match[1]) * dict(s=1, min=60, h=3600)[match[2]]


def _again(args: argparse.Namespace, argv: list[str] | None) -> str:
    """Return the command line that makes this run again."""
    import sys

    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ['adapt']:
        words = words[1:]
    return shlex.join(['mmclip', 'adapt', *words])
