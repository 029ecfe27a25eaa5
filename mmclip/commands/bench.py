"""Time mmclip beside open_clip, timm, mmpretrain and Hugging Face.

What is timed:

  model      forward passes of image towers, with the same random weights
  train      forward and backward passes of the same
  iteration  whole iterations of a run, beside a loop that only trains
  options    towers of ours that compute less: dropped patches in training,
             merged tokens and int8 in inference
  pipeline   from JPEG files to tensors, on one core
  convert    a whole model's weights to an image tower that configs can load
  start      imports, --help, a run of one iteration, and building a model
  growth     how time and memory grow with sizes, batches, workers, images and
             classes
  gpu        what decides the speed on a GPU, in about ten minutes

Outputs are compared before anything is timed. Then all take turns, so that
what else the machine does disturbs them alike; a round in which anything takes
a tenth longer than usual is repeated. Ratios are medians over rounds, with
their quartiles. "Of product rate" is the rate of operations that a plain
implementation needs, over that of a matrix product in the same rounds. Peers
that are not installed are left out, and named.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmclip.commands._command_line import (
    Parser,
    command,
    positive,
    print_written,
)

EXAMPLES = """\
  %(prog)s model
  %(prog)s gpu --json gpu.json --plot gpu.png
  %(prog)s train --cases ViT-B-16:4 --precision bf16 --plot train.png
  %(prog)s train --cases ViT-B-16:4 --compile --only timm --json train.json
"""
KINDS = (
    *('model', 'train', 'iteration', 'options'),
    *('pipeline', 'convert', 'start', 'growth', 'gpu'),
)
PRECISIONS = ('fp32', 'bf16')
PEERS = ('open_clip', 'timm', 'mmpretrain', 'transformers', 'torchvision v2')
CASES = dict(
    model=['ViT-B-16:1', 'ViT-B-16:8'],
    train=['ViT-B-16:4', 'ViT-L-14:1'],
    iteration=['ViT-B-16:8'],
    options=['ViT-B-16:4'],
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('kind', choices=KINDS, help='what to time')
    add(
        '--cases',
        nargs='+',
        metavar='TOWER:BATCH',
        help='for model, train, iteration and options: tiny, ViT-B-16, '
        'ViT-L-14 or ViT-L-14-336, and the images of a batch (default: '
        + '; '.join(f'{kind}: {" ".join(c)}' for kind, c in CASES.items())
        + ')',
    )
    add(
        '--precision',
        nargs='+',
        choices=PRECISIONS,
        default=PRECISIONS,
        help='for the same: bf16 is autocast (default: both)',
    )
    add(
        '--compile',
        action='store_true',
        help='for model and train: also time each with torch.compile',
    )
    add(
        '--model',
        default='ViT-L-14-336',
        help="for convert: one of open_clip's names (default: %(default)s)",
    )
    add('--only', nargs='+', choices=PEERS, default=(), help='these peers')
    add(
        '--rounds',
        type=positive(int),
        help='how many rounds count (default: 15; for convert, start and '
        'growth: 5)',
    )
    parser.add_device('each tower')
    add('--json', type=Path, metavar='OUT', help='a file for all numbers')
    add('--plot', type=Path, metavar='OUT', help='a picture of the table')
    parser.add_force('OUT if it exists')
    args = parser.parse(argv)
    if args.rounds is None:
        args.rounds = 5 if args.kind in ('convert', 'start', 'growth') else 15
    try:
        args.cases = [
            (tower, positive(int)(batch))
            for case in args.cases or CASES.get(args.kind, ())
            for tower, batch in [case.split(':')]
        ]
    except (ValueError, argparse.ArgumentTypeError):
        parser.error('argument --cases: must be TOWER:BATCH, as ViT-B-16:4')
    return args


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    import dataclasses

    from mmclip.benchmark.growth import plot_growths
    from mmclip.benchmark.table import plot
    from mmclip.checkpoint.files.paths import check_free

    outs = [path for path in (args.json, args.plot) if path]
    for path in outs:
        check_free(path, force=args.force)
    rows = []
    for new, text in measured(args):
        rows += new
        print(text)
    if args.json:
        args.json.write_text(
            json.dumps([dataclasses.asdict(row) for row in rows], indent=1)
        )
        print_written((args.json, 'all numbers; times are in seconds'))
    if args.plot:
        draw = plot_growths if args.kind == 'growth' else plot
        draw(rows, args.plot)
        print_written((args.plot, 'a picture of it'))
    return 0


def measured(args: argparse.Namespace) -> Iterator[tuple[list[Any], str]]:
    """Yield rows, and what to print of them."""
    import torch

    from mmclip.benchmark.rounds import compete
    from mmclip.benchmark.table import table

    if args.kind == 'growth':
        from mmclip.benchmark.growth import growths, to_table

        for growth in growths(torch.device(args.device), args.rounds):
            yield [growth], to_table([growth])
        return
    for case in cases(args):
        rows = compete(case, args.rounds)
        left_out = ', '.join(case.missing)
        yield rows, table(rows) + f'\nleft out: {left_out}\n' * bool(left_out)
    if args.kind not in ('iteration', 'gpu'):
        return
    from mmclip.benchmark import gpu, runs

    device = torch.device(args.device)
    towers = args.cases or gpu.towers_for(device)
    precisions = ['bf16'] if args.kind == 'gpu' else args.precision
    for rows, waits in runs.time_iterations(
        towers, precisions, device, args.rounds
    ):
        lines = '\n'.join(['waits for the GPU at:', *waits, ''])
        yield rows, table(rows) + f'\n{lines}' * bool(waits)
    if args.kind == 'gpu':
        yield [], gpu.largest_batches(device)


def cases(args: argparse.Namespace) -> Iterator[Any]:
    """Yield the cases that the arguments ask for."""
    import torch
    import torch._inductor.config

    if args.kind in CASES:
        from mmclip.benchmark.models import TOWERS, model_cases
        from mmclip.errors import check_choice

        for tower, _ in args.cases:
            check_choice('--cases', tower, TOWERS)
    device = torch.device(args.device)
    # Or the second run would tell less about the time to start.
    torch._inductor.config.force_disable_caches = True
    if args.kind in ('model', 'train'):
        yield from model_cases(
            args.cases,
            args.precision,
            device,
            training=args.kind == 'train',
            compiled=args.compile,
            only=args.only,
        )
    elif args.kind == 'options':
        from mmclip.benchmark.options import option_cases

        yield from option_cases(args.cases, args.precision, device)
    elif args.kind == 'pipeline':
        from mmclip.benchmark.pipelines import pipeline_cases

        yield from pipeline_cases(args.only)
    elif args.kind == 'convert':
        from mmclip.benchmark.programs import convert_cases

        yield from convert_cases(args.model)
    elif args.kind == 'start':
        from mmclip.benchmark.programs import start_cases

        yield from start_cases(args.only)
    elif args.kind == 'gpu':
        from mmclip.benchmark.gpu import gpu_cases

        yield from gpu_cases(device)
