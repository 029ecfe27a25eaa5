"""Merge the weights of LoRA into those that they update.

Writes an ordinary checkpoint with the same outputs, and beside it the config
that it is tested with.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config

from mmclip.checkpoint import (
    CheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from mmclip.checkpoint.files.paths import check_free, check_out
from mmclip.checkpoint.lora import merge_lora
from mmclip.engine.config.check import RUNNER_KEYS
from mmclip.engine.config.load import load_config

EXAMPLES = """examples:
  %(prog)s configs/clip/clip-l-336_lora_in1k.py \\
      work_dirs/clip-l-336_lora_in1k/epoch_50.pth merged.pth
  python tools/test.py merged.py merged.pth
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='the config that the checkpoint was trained with')
    add('checkpoint', type=Path, help='the checkpoint of a training')
    add('out', type=Path, help='the file to write (.pth or .safetensors)')
    add('--force', action='store_true', help='overwrite what exists')
    args = parser.parse_args()
    config = args.out.with_suffix('.py')
    try:
        check_out(args.out, force=args.force)
        check_free(config, force=args.force)
        cfg, checkpoint = merge_lora(
            load_config(args.config), read_checkpoint(args.checkpoint)
        )
        write_checkpoint(checkpoint, args.out)
        # Without the variables that the config computed others from.
        known = {key: cfg[key] for key in cfg if key in RUNNER_KEYS}
        Config(known).dump(str(config))
    except (CheckpointError, OSError) as error:
        sys.exit(f'error: {error}')
    print(f'wrote {args.out} and its config {config}')
    print(f'use it as: python tools/test.py {config} {args.out}')


if __name__ == '__main__':
    main()
