"""Export the tower of an mmclip checkpoint to open_clip, timm or Hugging Face.

Converted and fine-tuned checkpoints alike; the exported tower gives the same
outputs there.
"""

import argparse
import json
import sys
from pathlib import Path

from mmclip.checkpoint import (
    CheckpointError,
    read_checkpoint,
    read_state_dict,
    write_checkpoint,
)
from mmclip.checkpoint.to_others import TARGETS, Export, export_checkpoint
from mmclip.engine.config import load_config

EXAMPLES = """examples:
  # for open_clip: the image tower alone
  %(prog)s ViT-L-14-336px.pth tower.safetensors
  # for open_clip: a whole model, the text tower from the weights before
  %(prog)s epoch_50.pth OUT.safetensors --config CONFIG --base ORIGINAL.pt
  # for timm, with the classifier if there is one
  %(prog)s epoch_50.pth tower.safetensors --to timm --config CONFIG
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
        '--config',
        help='the config that a checkpoint of a training was made with',
    )
    parser.add_argument(
        '--base',
        help='for open_clip: the weights of the whole model, whose text tower '
        'goes with the image tower',
    )
    parser.add_argument(
        '--force', action='store_true', help='overwrite OUT if it exists'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.out.exists() and not args.force:
        sys.exit(f'error: {args.out} exists; pass --force to overwrite it.')
    try:
        exported = export_checkpoint(
            read_checkpoint(args.checkpoint),
            args.to,
            load_config(args.config).model.backbone.to_dict()
            if args.config
            else None,
            read_state_dict(args.base) if args.base else None,
        )
    except (CheckpointError, FileNotFoundError) as error:
        sys.exit(f'error: {args.checkpoint}: {error}')
    write(exported, args.out)
    print(f'wrote: {args.out} ({len(exported.state_dict)} tensors)')
    for note in exported.notes:
        print(note)
    print(f'use it as: {exported.usage}')


def write(exported: Export, out: Path) -> None:
    """The weights, in a folder with its configs if there are any."""
    weights = out / 'model.safetensors' if exported.files else out
    if weights.suffix == '.safetensors':
        write_checkpoint(dict(state_dict=exported.state_dict), weights)
    else:
        write_checkpoint(exported.state_dict, weights)
    for name, content in exported.files.items():
        (out / name).write_text(json.dumps(content, indent=2) + '\n')


if __name__ == '__main__':
    main()
