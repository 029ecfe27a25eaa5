"""Turn a model fine-tuned with FLYP into an ordinary zero-shot classifier."""

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
  %(prog)s configs/clip/clip-b16-224_flyp_in1k.py epoch_10.pth OUT.pth

Use OUT.pth with a config that has the same backbone and a
mmclip.ZeroShotClsHead, to test, interpolate or export it.
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('config', help='the config of the training run')
    add('checkpoint', help='a checkpoint of the training run')
    add('out', type=Path, help='the file to write (.pth or .safetensors)')
    parser.add_device('the text tower')
    parser.add_force()
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.checkpoint import read_checkpoint, write_checkpoint
    from mmclip.checkpoint.files.paths import check_out
    from mmclip.engine.config.load import load_config
    from mmclip.text.zero_shot import without_text_tower

    check_out(args.out, args.checkpoint, force=args.force)
    classifier = without_text_tower(
        read_checkpoint(args.checkpoint),
        load_config(args.config),
        args.device,
    )
    write_checkpoint(classifier, args.out)
    num_classes, width = classifier['state_dict']['head.fc.weight'].shape
    print(
        "a config for it has head=dict(type='mmclip.ZeroShotClsHead', "
        f'num_classes={num_classes}, in_channels={width})'
    )
    print_written(
        (args.out, f'a classifier of {num_classes} classes'),
        then=command_line('test', 'CONFIG', args.out),
    )
    return 0
