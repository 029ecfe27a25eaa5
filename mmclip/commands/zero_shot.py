"""Make a zero-shot classifier of a CLIP model and the names of classes."""

import argparse
import sys
from collections import Counter
from pathlib import Path

import torch

from mmclip.checkpoint import CheckpointError, write_checkpoint
from mmclip.checkpoint.files.paths import check_out
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

EXAMPLES = """examples:
  # ImageNet's classes with OpenAI's 80 templates, then its accuracy
  %(prog)s ViT-L-14-336 openai OUT.pth
  python tools/test.py configs/clip/clip-l-336_zeroshot_in1k.py OUT.pth
  # your own classes, one name a line in the order of the class folders
  %(prog)s ViT-B-16 openai OUT.pth --classes NAMES.txt --data data/mine/val
  # a local file
  %(prog)s ViT-L-14-336 ViT-L-14-336px.pt OUT.pth --tag openai
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        'name',
        help='a model name of open_clip, or an open_clip_config.json',
    )
    add(
        'pretrained',
        help='a pretrained tag of that name, or a local checkpoint of the '
        'whole model',
    )
    add('out', type=Path, help='the file to write (.pth or .safetensors)')
    add(
        '--classes',
        default='imagenet',
        metavar='imagenet|FILE',
        help="the names of the classes: open_clip's of ImageNet-1k, or a "
        'text file with a name a line, in the order of the labels: for class '
        'folders, that of the alphabet (default: %(default)s)',
    )
    add(
        '--data',
        metavar='DIR',
        help='a folder with one folder per class, to compare the order of '
        'the names with',
    )
    add(
        '--templates',
        default='openai',
        metavar='openai|simple|FILE',
        help="OpenAI's 80 or its best 7, or a text file with a text a line, "
        '{} for the name (default: %(default)s)',
    )
    add(
        '--tag',
        help='for a local checkpoint: the pretrained tag whose activation '
        "and preprocessing it follows, or 'none' for the model config's own",
    )
    add(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where the text tower runs (default: %(default)s)',
    )
    add('--force', action='store_true', help='overwrite OUT if it exists')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        check_out(args.out, force=args.force)
        classes = class_names(args.classes)
        templates = named_templates(args.templates)
        if args.data:
            folders = class_folders(args.data)
            check_folders(classes, folders, args.classes, args.data)
        # Refuse first what would be refused after notes and a download.
        find_source(args.name, args.pretrained, args.tag)
        make_texts(classes, templates)
        print(f'{len(classes)} classes x {len(templates)} templates')
        if twice := [name for name, n in Counter(classes).items() if n > 1]:
            print(f'named twice, and so never told apart: {", ".join(twice)}')
        own = args.classes != 'imagenet' and not args.data
        if own and classes != sorted(classes):
            print(
                'the names are not in the order of the alphabet, in which '
                'class folders are numbered; --data DIR compares them with '
                'your folders'
            )
        checkpoint = zero_shot_checkpoint(
            args.name,
            args.pretrained,
            classes,
            templates,
            args.tag,
            args.device,
        )
        write_checkpoint(checkpoint, args.out)
    except (CheckpointError, OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print_report(checkpoint, args.out)


def print_report(checkpoint: dict, out: Path) -> None:
    clip = checkpoint['meta']['clip']
    print(f'images: {images(clip)}')
    print(f'file: {out} ({out.stat().st_size:,} bytes)')
    print(f'use it in the model of a config as:\n{config_lines(clip, out)}')


if __name__ == '__main__':
    main()
