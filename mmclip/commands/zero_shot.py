"""Make a zero-shot classifier from a CLIP model and class names."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmclip.commands._command_line import (
    Parser,
    command,
    command_line,
    print_written,
)
from mmclip.errors import DataError

EXAMPLES = """\
  # ImageNet's classes with OpenAI's 80 templates
  %(prog)s ViT-L-14-336 openai OUT.pth
  # your own classes, one name per line in the order of the class folders
  %(prog)s ViT-B-16 openai OUT.pth --classes NAMES.txt --data data/mine/val
  # for mmsegmentation, with several names of one class in a line: cat|kitten
  %(prog)s ViT-B-16 openai OUT.pth --segmenter --classes NAMES.txt
  # a local file
  %(prog)s ViT-L-14-336 ViT-L-14-336px.pt OUT.pth --tag openai
"""
SPLITS = {'train', 'val', 'test', 'training', 'validation', 'valid'}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add(
        'name',
        help='a model name or a JSON model config from open_clip',
    )
    add(
        'pretrained',
        help='a pretrained tag of that model, or a local checkpoint of the '
        'whole model',
    )
    add('out', type=Path, help='the file to write (.pth or .safetensors)')
    add(
        '--classes',
        default='imagenet',
        metavar='imagenet|FILE|NAME,NAME,...',
        help="the class names: open_clip's for ImageNet-1k, a text file with "
        'one name per line, or names, in the order of the labels, which is '
        'alphabetical for class folders (default: %(default)s)',
    )
    add(
        '--data',
        metavar='DIR',
        help='a folder with one folder per class, to check the order of the '
        'names against',
    )
    parser.add_templates()
    add(
        '--tag',
        help='for a local checkpoint: the pretrained tag whose activation '
        "and preprocessing it uses, or 'none' to use the model config's",
    )
    add(
        '--segmenter',
        action='store_true',
        help='make a segmenter for mmsegmentation (ZeroShotSegHead), whose '
        'classes may have several names, with | between them',
    )
    parser.add_device('the text tower')
    parser.add_force()
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.checkpoint.files.paths import check_out

    check_out(args.out, args.pretrained, force=args.force)
    from mmclip.checkpoint import write_checkpoint
    from mmclip.checkpoint.towers.sources import find_source
    from mmclip.checkpoint.towers.usage import config_lines, images
    from mmclip.datasets.class_order import check_folders
    from mmclip.datasets.image_tree import class_folders
    from mmclip.text.class_embeddings import (
        class_names,
        make_texts,
        named_templates,
    )
    from mmclip.text.zero_shot import zero_shot_checkpoint

    classes = class_names(args.classes)
    templates = named_templates(args.templates)
    if args.data:
        folders = class_folders(args.data)
        if not folders:
            raise DataError(
                f'{args.data} has no class folders. Give a folder with one '
                'folder per class as --data.'
            )
        if splits := sorted(SPLITS & set(folders) - set(classes)):
            raise DataError(
                f'{args.data} has {", ".join(splits)}, which are splits, not '
                'classes. Give one of them: --data '
                f'{Path(args.data) / splits[-1]}.'
            )
        check_folders(classes, folders, args.classes, args.data)
    # Fail early, before any notes or downloads.
    find_source(args.name, args.pretrained, args.tag)
    make_texts(classes, templates)
    print(f'{len(classes)} classes x {len(templates)} templates')
    # In segmentation, the labels of no folders are alphabetical.
    is_sure = args.classes == 'imagenet' or args.data or args.segmenter
    note_names(classes, is_sure=bool(is_sure))
    source = (args.name, args.pretrained)
    if args.segmenter:
        from mmclip.segmentation.checkpoint import (
            segmenter_checkpoint,
            segmenter_lines,
        )
        from mmclip.segmentation.class_names import parse_classes

        checkpoint = segmenter_checkpoint(
            *source, parse_classes(classes), templates, args.tag, args.device
        )
    else:
        checkpoint = zero_shot_checkpoint(
            *source, classes, templates, args.tag, args.device
        )
    write_checkpoint(checkpoint, args.out)
    clip = checkpoint['meta']['clip']
    print(f'images: {images(clip)}')
    lines = config_lines(clip, args.out)
    kind = 'classifier'
    if args.segmenter:
        lines, kind = segmenter_lines(checkpoint), 'segmenter'
    print(f'use it in the model of a config as:\n{lines}')
    what = f'a {kind} of {len(classes)} classes'
    print_written(
        (args.out, f'{what}, {args.out.stat().st_size:,} bytes'),
        then=command_line('test', 'CONFIG', args.out),
    )
    return 0


def note_names(classes: Sequence[str], *, is_sure: bool) -> None:
    """Print what looks wrong in a list of names but may be right."""
    if twice := [name for name, n in Counter(classes).items() if n > 1]:
        print(f'named more than once: {", ".join(twice)}')
    if not is_sure and list(classes) != sorted(classes):
        print(
            'the names are not in alphabetical order, as class folders are; '
            'check them against your folders with --data DIR'
        )
