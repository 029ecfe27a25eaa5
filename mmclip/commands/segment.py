"""Say what is at each pixel of an image, from names of classes alone.

Writes a PNG whose pixel values are the numbers of the classes, in the order in
which they are printed, with a colour each.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmclip.commands._command_line import (
    Parser,
    command,
    positive,
    print_written,
)
from mmclip.errors import ArgumentError, DataError

EXAMPLES = """\
  %(prog)s park.jpg --classes "dog,grass|lawn,sky" --out map.png
  # what is none of these is background
  %(prog)s park.jpg --classes "dog,cat" --background "grass|sky|wall" \\
      --threshold 0.5 --out map.png
  # a larger model, a larger image, another way to keep patches apart
  %(prog)s park.jpg --classes names.txt --out map.png \\
      --model ViT-L-14-336/openai --short-side 672 --dense clearclip
"""
MOST_CLASSES = 256  # values of a PNG's pixels
DENSE = ('sclip', 'maskclip', 'clearclip', 'windows')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('image', type=Path, help='an image file')
    add(
        '--classes',
        required=True,
        metavar='FILE|NAME,NAME,...',
        help='names of classes, or a text file with one class per line; '
        'several names of one class have | between them',
    )
    add('--out', type=Path, required=True, help='the map to write (.png)')
    add(
        '--background',
        nargs='?',
        const='',
        metavar='NAME|NAME|...',
        help='add a class 0, background, with these names or none',
    )
    add(
        '--threshold',
        type=float,
        default=0.0,
        metavar='P',
        help='with --background: what is less likely than P, in 0..1, is '
        'background (default: 0)',
    )
    add(
        '--model',
        default='ViT-B-16/openai',
        help="open_clip's NAME/TAG, or a folder with open_clip_config.json "
        '(default: %(default)s)',
    )
    add('--weights', help='a local file with the weights of NAME/TAG')
    add(
        '--dense',
        choices=DENSE,
        default='sclip',
        help="how the last block keeps patches apart: SCLIP's, MaskCLIP's or "
        "ClearCLIP's way; or windows, each named as a whole "
        '(default: %(default)s)',
    )
    add(
        '--short-side',
        type=positive(int),
        metavar='PIXELS',
        help='to what the shorter side of the image is resized (default: one '
        "and a half times the model's images)",
    )
    parser.add_templates()
    parser.add_device('the model')
    parser.add_force()
    args = parser.parse(argv)
    if args.threshold and args.background is None:
        parser.error('--threshold needs --background')
    if args.background == '' and not args.threshold:
        parser.error('--background without names needs --threshold')
    if ',' in (args.background or ''):
        parser.error('--background is one class: put | between its names')
    if not 0 <= args.threshold <= 1:
        parser.error(f'--threshold must be in 0..1, got {args.threshold:g}')
    if args.out.suffix.lower() != '.png':
        parser.error(f'--out must end in .png, got {args.out}')
    return args


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.checkpoint.files.paths import check_free, is_file
    from mmclip.named_model.check import check_model
    from mmclip.segmentation.class_names import parse_classes

    image = read(args.image)
    inputs = [str(args.image), *[args.classes] * is_file(args.classes)]
    check_free(args.out, *inputs, force=args.force)
    check_model(args.model, args.weights)
    classes = parse_classes(_lines(args.classes), args.background)
    if len(classes.classes) > MOST_CLASSES:
        raise ArgumentError(
            f'A PNG has room for {MOST_CLASSES} classes; got '
            f'{len(classes.classes):,}.'
        )
    from mmclip.checkpoint.files.atomic import atomic_file
    from mmclip.named_model.encoder import open_encoder
    from mmclip.segmentation.map_file import save_map, shares
    from mmclip.segmentation.segmenter import Segmenter
    from mmclip.text.class_embeddings import named_templates

    segmenter = Segmenter(
        open_encoder(args.model, args.weights, device=args.device),
        classes,
        named_templates(args.templates),
        dense=args.dense,
        threshold=args.threshold,
        short_side=args.short_side,
        device=args.device,
        say=lambda line: print(line, file=sys.stderr),
    )
    labels = segmenter(image)
    with atomic_file(args.out) as path:
        save_map(labels, path)
    names = classes.classes
    for number, share in enumerate(shares(labels, len(names))):
        print(f'{number:3}  {names[number]}  {100 * share:.1f} %')
    print_written((args.out, 'the class of each pixel'))
    return 0


def read(path: Path) -> Any:
    """Read an image, before anything that takes long."""
    from mmclip.datasets.transforms.load_image import (
        LoadImageError,
        read_image,
    )

    if not path.is_file():
        raise FileNotFoundError(f'There is no image {path}.')
    try:
        return read_image(path)
    except LoadImageError as error:
        raise DataError(str(error)) from error


def _lines(classes: str) -> list[str]:
    from mmclip.checkpoint.files.paths import is_file
    from mmclip.text.class_embeddings import class_names

    # Beside a background, one class is enough.
    if ',' in classes or classes.endswith('.txt') or is_file(classes):
        return class_names(classes)
    return [classes]
