"""Count the parameters and multiply-accumulates of a config's model."""

import argparse
from collections.abc import Sequence

from mmclip.commands._command_line import Parser, command, positive

EXAMPLES = """\
  %(prog)s configs/clip/clip-l-336.py

One multiply-accumulate counts as one, as in published tables of "FLOPs".
Convolutions, linear layers and the two matrix products of attention are
counted; norms, softmax, activations and additions are not.
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('config', help='the config file')
    add(
        '--shape',
        type=positive(int),
        nargs='+',
        metavar='PIXELS',
        help='image size, one number or height and width (default: the '
        "backbone's img_size)",
    )
    parser.add_cfg_options('model.backbone.img_size=448')
    args = parser.parse(argv)
    if args.shape is not None and len(args.shape) > 2:
        parser.error('--shape takes one or two numbers')
    return args


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.analysis.complexity import count_complexity, image_size
    from mmclip.engine.config.build import naming_the_config
    from mmclip.evaluation.config import load_config_with

    cfg = load_config_with(('model',), args.config, args.cfg_options)
    size = args.shape or image_size(cfg)
    size = (size[0], size[-1])
    with naming_the_config(cfg):
        complexity = count_complexity(cfg, size)
    print(f'Input: 3 x {size[0]} x {size[1]}')
    print(f'Params: {complexity.params / 1e6:.2f} M ({complexity.params:,})')
    print(f'Flops: {complexity.macs / 1e9:.2f} G (multiply-accumulates)')
    return 0
