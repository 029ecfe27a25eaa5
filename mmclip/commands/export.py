"""Export an image encoder (tower) to open_clip, timm or Hugging Face.

The checkpoint may be converted or fine-tuned. The exported tower gives the
same outputs in the other library.
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmclip.commands._command_line import Parser, command, print_written

EXAMPLES = """\
  # for open_clip: the image tower alone
  %(prog)s ViT-L-14-336px.pth tower.safetensors
  # for open_clip: a whole model, with the text tower of the original weights
  %(prog)s epoch_50.pth OUT.safetensors --base ORIGINAL.pt
  # for timm, with the classifier if there is one
  %(prog)s epoch_50.pth tower.safetensors --to timm
  # for Hugging Face, as a folder
  %(prog)s ViT-L-14-336px.pth FOLDER --to hf
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('checkpoint', type=Path, help='the file to export')
    add(
        'out',
        type=Path,
        help='the file to write (.safetensors, .pt); for hf, a folder',
    )
    add(
        '--to',
        default='open_clip',
        metavar='LIBRARY',
        help='open_clip (default), timm or hf, for Hugging Face',
    )
    add(
        '--base',
        help='for open_clip: weights of a whole model, whose text tower is '
        'exported with the image tower',
    )
    parser.add_force('OUT, or the files written into it if it is a folder')
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.checkpoint import read_checkpoint, read_state_dict
    from mmclip.checkpoint.towers.export import (
        TARGETS,
        export_checkpoint,
        write_export,
    )
    from mmclip.errors import CheckpointError, check_choice

    check_choice('argument --to:', args.to, TARGETS)
    check_out(args)
    base = read_state_dict(args.base) if args.base else None
    checkpoint = read_checkpoint(args.checkpoint)
    try:
        exported = export_checkpoint(checkpoint, args.to, base)
    except CheckpointError as error:
        raise CheckpointError(f'{args.checkpoint}: {error}') from error
    write_export(exported, args.out)
    for note in exported.notes:
        print(note)
    print(f'use it in Python as:\n\n{exported.usage(args.out)}\n')
    what = f'{args.to}, {len(exported.state_dict)} tensors'
    then = f'mmclip inspect {shlex.quote(str(args.out))}'
    print_written((args.out, what), then=then)
    return 0


def check_out(args: argparse.Namespace) -> None:
    """Refuse an output path before any work is done."""
    from mmclip.checkpoint.files import paths
    from mmclip.checkpoint.towers.export import FOLDERS, WEIGHTS
    from mmclip.errors import CheckpointError

    to, out = args.to, args.out
    inputs = [args.checkpoint, *([args.base] if args.base else [])]
    if to not in FOLDERS:
        paths.check_out(out, *inputs, force=args.force)
        return
    if out.is_file() or out.suffix in paths.SUFFIXES:
        what = 'is a file' if out.is_file() else 'is the name of a file'
        raise CheckpointError(f'{out} {what}. --to {to} needs a folder.')
    if out.exists() and not args.force:
        raise CheckpointError(
            f'{out} exists; pass --force to overwrite the files in it.'
        )
    paths.check_folder(out)
    paths.check_free(out / WEIGHTS, *inputs, force=True)
