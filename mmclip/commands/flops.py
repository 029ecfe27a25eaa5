"""Count the parameters and multiply-accumulates of a config's model."""

import argparse

from mmengine.config import DictAction

from mmclip.analysis.complexity import count_complexity, image_size
from mmclip.engine.config.load import load_config

EXAMPLES = """example:
  python %(prog)s configs/clip/clip-l-336.py

Convention: one multiply-accumulate counts as one, as in the tables of the
field, which call it FLOPs; convolutions, linear layers and the two products
of attention are counted, norms, softmax, activations and additions are not.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='the config file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        metavar='PIXELS',
        help="image size, one number or height and width; the backbone's "
        'img_size by default',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override the config',
    )
    args = parser.parse_args()
    if args.shape is not None and len(args.shape) > 2:
        parser.error('--shape takes one or two numbers')

    cfg = load_config(args.config, args.cfg_options)
    try:
        size = args.shape or image_size(cfg)
    except ValueError as error:
        parser.error(str(error))
    size = (size[0], size[-1])
    complexity = count_complexity(cfg, size)
    print(f'Input: 3 x {size[0]} x {size[1]}')
    print(f'Params: {complexity.params / 1e6:.2f} M ({complexity.params:,})')
    print(f'Flops: {complexity.macs / 1e9:.2f} G (multiply-accumulates)')


if __name__ == '__main__':
    main()
