"""Export the tower of an mmclip checkpoint to open_clip, timm or Hugging Face.

Converted and fine-tuned checkpoints alike; the exported tower gives the same
outputs there.
"""

import argparse
import sys
from pathlib import Path

from mmclip.checkpoint import (
    CheckpointError,
    read_checkpoint,
    read_state_dict,
)
from mmclip.checkpoint.files.paths import check_folder, check_out
from mmclip.checkpoint.towers.export import (
    TARGETS,
    export_checkpoint,
    write_export,
)

EXAMPLES = """examples:
  # for open_clip: the image tower alone
  %(prog)s ViT-L-14-336px.pth tower.safetensors
  # for open_clip: a whole model, the text tower from the weights before
  %(prog)s epoch_50.pth OUT.safetensors --base ORIGINAL.pt
  # for timm, with the classifier if there is one
  %(prog)s epoch_50.pth tower.safetensors --to timm
  # for Hugging Face: OUT is a folder
  %(prog)s ViT-L-14-336px.pth FOLDER --to hf
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('checkpoint', type=Path, help='the file to export')
    parser.add_argument(
        'out',
        type=Path,
        help='the file to write (.safetensors, .pt); for hf a folder',
    )
    parser.add_argument(
        '--to', choices=TARGETS, default='open_clip', help='whose names'
    )
    parser.add_argument(
        '--base',
        help='for open_clip: the weights of the whole model, whose text tower '
        'goes with the image tower',
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='overwrite OUT, of a folder what is written',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        check(args)
        exported = export_checkpoint(
            read_checkpoint(args.checkpoint),
            args.to,
            read_state_dict(args.base) if args.base else None,
        )
        write_export(exported, args.out)
    except (CheckpointError, OSError) as error:
        sys.exit(f'error: {args.checkpoint} to {args.out}: {error}')
    print(f'wrote: {args.out} ({len(exported.state_dict)} tensors)')
    for note in exported.notes:
        print(note)
    print(f'use it as: {exported.usage}')


def check(args: argparse.Namespace) -> None:
    """Refuse an output before the work for it is done."""
    if args.to != 'hf':
        check_out(args.out, force=args.force)
    elif args.out.is_file():
        raise CheckpointError(f'{args.out} is a file: name a folder for hf.')
    elif args.out.exists() and not args.force:
        raise CheckpointError(
            f'{args.out} exists; pass --force to overwrite the files in it.'
        )
    else:
        check_folder(args.out)


if __name__ == '__main__':
    main()
