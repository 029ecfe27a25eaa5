"""Estimate what training runs cost, as a Markdown table.

Counts, on the model of each config and without running it, the operations of
the forward and backward passes, the activations that autograd keeps under
autocast to bfloat16, and the optimizer states. Data loading, communication,
allocators and kernels come on top. GPU-hours are not measured: they follow
from an assumed throughput.
"""

import argparse
from collections.abc import Sequence

from mmclip.commands._command_line import Parser, command, positive
from mmclip.markdown import markdown_table

EXAMPLES = """\
  %(prog)s configs/clip/clip-b16-224.py configs/clip/clip-l-336.py
"""
HEADER = (
    'Config',
    'Trained (M)',
    'TFLOP per image',
    'States (GB)',
    'Activations (GB per image)',
    'Batch per GPU',
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
        type=positive(int),
        default=1_281_167,
        help='images per epoch (default: %(default)s, ImageNet-1k)',
    )
    add(
        '--tflops',
        type=positive(float),
        default=150,
        help='assumed throughput of a GPU, in 10**12 operations per second '
        "(default: %(default)s, about half of an A100's peak of 312 in "
        'bfloat16)',
    )
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    # All rows first, so that logs of building models precede the table.
    rows = [row(path, args.images, args.tflops) for path in args.configs]
    print(markdown_table(HEADER, rows), end='')
    return 0


def row(path: str, images: int, tflops: float) -> list[str]:
    from mmclip.analysis.training_cost import (
        count_training_cost,
        epochs_by_size,
    )
    from mmclip.engine.config.build import naming_the_config
    from mmclip.errors import ConfigError
    from mmclip.evaluation.config import load_config_with

    cfg = load_config_with(('model', 'train_dataloader', 'train_cfg'), path)
    batch = cfg.train_dataloader.get('batch_size')
    epochs = cfg.train_cfg.get('max_epochs')
    if not batch or not epochs:
        raise ConfigError(
            f'{path} must set train_dataloader.batch_size and '
            'train_cfg.max_epochs.'
        )
    with naming_the_config(cfg):
        parts = [
            (count_training_cost(cfg, size), epochs_of_size)
            for size, epochs_of_size in epochs_by_size(cfg).items()
        ]
    flops = sum(cost.flops_per_image * n for cost, n in parts) / epochs
    hours = sum(cost.gpu_hours(n * images, tflops) for cost, n in parts)
    most = max((cost for cost, _ in parts), key=lambda c: c.bytes_per_image)
    return [
        path.rpartition('/')[2],
        f'{most.params / 1e6:.1f}',
        f'{flops / 1e12:.2f}',
        f'{most.bytes_of_states / 1e9:.1f}',
        f'{most.bytes_per_image / 1e9:.2f}',
        str(batch),
        f'{most.memory(batch) / 1e9:.0f}',
        str(epochs),
        f'{hours:.0f}',
    ]
