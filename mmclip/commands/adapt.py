"""Make a classifier from your own images."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmclip.commands._command_line import (
    Parser,
    command,
    command_line,
    print_written,
)

EXAMPLES = """\
  # one folder per class, in photos/ or in photos/train/ and photos/val/
  %(prog)s photos/
  %(prog)s photos/ --model ViT-L-14-336/openai --out runs/large
  %(prog)s photos/ --names NAMES.txt --templates TEMPLATES.txt
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('images', type=Path, help='a folder with one folder per class')
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
        metavar='FILE',
        help='class names for the text tower, one per line in the order of '
        "the folders (default: the folders' names)",
    )
    add(
        '--templates',
        default='openai',
        metavar='openai|simple|FILE',
        help="OpenAI's 80 templates, its best 7, or a text file with one "
        'template per line, with {} for the name (default: %(default)s)',
    )
    add('--seed', type=int, default=0, help='of splits (default: 0)')
    parser.add_force('the run in the folder')
    add('-v', '--verbose', action='store_true', help='show the whole log')
    args = parser.parse(argv)
    args.out = args.out or Path('runs') / args.images.resolve().name
    return args


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.adapting.adapt import adapt
    from mmclip.adapting.run_folder import RunFolder
    from mmclip.adapting.screen import log_to
    from mmclip.text.class_embeddings import class_names

    names = class_names(args.names) if args.names else None
    folder = RunFolder(args.out)
    folder.check_free(force=args.force)
    with log_to(folder.log, verbose=args.verbose):
        adapt(
            args.images,
            args.out,
            model=args.model,
            weights=args.weights,
            names=names,
            templates=args.templates,
            seed=args.seed,
            command=_again(args, argv),
        )
    print_written(
        (folder.model, 'the classifier'),
        (folder.predictions, 'an answer per validation and test image'),
        then=command_line('predict', args.out, 'IMAGES'),
    )
    return 0


def _again(args: argparse.Namespace, argv: list[str] | None) -> str:
    """Return the command line that makes this run again."""
    import sys

    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ['adapt']:
        words = words[1:]
    return shlex.join(['mmclip', 'adapt', *words])
