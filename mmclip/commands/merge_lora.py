"""Merge LoRA's updates into the weights.

Writes an ordinary checkpoint with the same outputs and, next to it, a config
to test it with.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmclip.commands._command_line import (
    Parser,
    command,
    command_line,
    print_written,
)

EXAMPLES = """\
  %(prog)s configs/clip/clip-l-336_lora_in1k.py \\
      work_dirs/clip-l-336_lora_in1k/epoch_50.pth merged.pth
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('config', help='the config that the checkpoint was trained with')
    add('checkpoint', type=Path, help='a checkpoint of the training run')
    add('out', type=Path, help='the file to write (.pth or .safetensors)')
    parser.add_force('OUT and the config next to it, if they exist')
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmengine.config import Config

    from mmclip.checkpoint import read_checkpoint, write_checkpoint
    from mmclip.checkpoint.files.paths import check_free, check_out
    from mmclip.checkpoint.lora import merge_lora
    from mmclip.engine.config.check import RUNNER_KEYS
    from mmclip.engine.config.load import load_config

    config = args.out.with_suffix('.py')
    check_out(args.out, args.checkpoint, force=args.force)
    check_free(config, args.config, force=args.force)
    cfg, checkpoint = merge_lora(
        load_config(args.config), read_checkpoint(args.checkpoint)
    )
    write_checkpoint(checkpoint, args.out)
    # Without the config's own helper variables.
    known = {key: cfg[key] for key in cfg if key in RUNNER_KEYS}
    Config(known).dump(str(config))
    print_written(
        (args.out, 'the merged weights'),
        (config, 'their config'),
        then=command_line('test', config, args.out),
    )
    return 0
