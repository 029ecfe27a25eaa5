"""Count what training runs cost, and print a Markdown table of it.

Counted on the model of each config, without running it: the operations of
forward and backward, the activations that autograd keeps with autocast to
bfloat16, and the states of the optimizer. Not in it: what data loading,
communication, allocators and kernels add. GPU-hours follow from an assumed
throughput and are no measurement.
"""

import argparse
from collections.abc import Sequence

from mmclip.commands._command_line import Parser, command
from mmclip.markdown import markdown_table

EXAMPLES = """\
  %(prog)s configs/clip/clip-b16-224.py configs/clip/clip-l-336.py
"""
HEADER = (
    'Config',
    'Trained (M)',
    'TFLOP an image',
    'States (GB)',
    'Activations (GB an image)',
    'Batch a GPU',
    'Memory (GB)',
    'Epochs',
    'GPU-hours',
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('configs', nargs='+', help='config files of classifiers')
    add(
        '--images',
        type=int,
        default=1_281_167,
        help='of an epoch (default: %(default)s, ImageNet-1k)',
    )
    add(
        '--tflops',
        type=float,
        default=150,
        help='10**12 operations a second that a GPU is assumed to reach '
        '(default: %(default)s, about half of the 312 that an A100 is made '
        'for in bfloat16)',
    )
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    # All first: what building models logs is not for inside of the table.
    rows = [row(path, args.images, args.tflops) for path in args.configs]
    print(markdown_table(HEADER, rows), end='')
    return 0


def row(path: str, images: int, tflops: float) -> list[str]:
    from mmclip.analysis.training_cost import count_training_cost
    from mmclip.engine.config.build import naming_the_config
    from mmclip.engine.config.load import load_config

    cfg = load_config(path)
    with naming_the_config(cfg):
        cost = count_training_cost(cfg)
    batch = cfg.train_dataloader.batch_size
    epochs = cfg.train_cfg.max_epochs
    return [
        path.rpartition('/')[2],
        f'{cost.params / 1e6:.1f}',
        f'{cost.flops_per_image / 1e12:.2f}',
        f'{cost.bytes_of_states / 1e9:.1f}',
        f'{cost.bytes_per_image / 1e9:.2f}',
        str(batch),
        f'{cost.memory(batch) / 1e9:.0f}',
        str(epochs),
        f'{cost.gpu_hours(epochs * images, tflops):.0f}',
    ]
