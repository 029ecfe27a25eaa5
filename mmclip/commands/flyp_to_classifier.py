"""Make an ordinary zero-shot classifier of a model that was tuned by FLYP."""

import argparse
import sys
from pathlib import Path

import torch

from mmclip.checkpoint import (
    CheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from mmclip.checkpoint.files.paths import check_out
from mmclip.engine.config.load import load_config
from mmclip.text.zero_shot import without_text_tower

EXAMPLE = """example:
  %(prog)s configs/clip/clip-b16-224_flyp_in1k.py epoch_10.pth OUT.pth

OUT.pth is for a config with the same backbone and a mmclip.ZeroShotClsHead:
for tools/test.py, tools/interpolate.py and export.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='the config that it was tuned with')
    parser.add_argument('checkpoint', help='the checkpoint of the training')
    parser.add_argument('out', type=Path, help='the file to write')
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where the text tower runs (default: %(default)s)',
    )
    parser.add_argument(
        '--force', action='store_true', help='overwrite OUT if it exists'
    )
    args = parser.parse_args()
    try:
        check_out(args.out, force=args.force)
        classifier = without_text_tower(
            read_checkpoint(args.checkpoint),
            load_config(args.config),
            args.device,
        )
        write_checkpoint(classifier, args.out)
    except (CheckpointError, OSError) as error:
        sys.exit(f'error: {error}')
    num_classes, width = classifier['state_dict']['head.fc.weight'].shape
    print(f'file: {args.out} ({args.out.stat().st_size:,} bytes)')
    print(
        "a config for it has head=dict(type='mmclip.ZeroShotClsHead', "
        f'num_classes={num_classes}, in_channels={width})'
    )


if __name__ == '__main__':
    main()
