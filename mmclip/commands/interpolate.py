"""Interpolate zero-shot and fine-tuned weights, and test them (WiSE-FT)."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmclip.commands._command_line import (
    Parser,
    command,
    command_line,
    print_written,
)
from mmclip.errors import ArgumentError

EXAMPLES = """\
  # the config's test set (clean), and another folder of its data set
  %(prog)s ZERO_SHOT.pth FINE_TUNED.pth --config CONFIG \\
      --eval shifted dataset.data_prefix=val_shifted --out OUT.pth
  # one of ImageNet's shifts, with the config's pipeline
  %(prog)s ZERO_SHOT.pth FINE_TUNED.pth --config CONFIG \\
      --eval r dataset.type=mmclip.ImageNetR dataset.data_root=data/imagenet-r
  # the test set of another config; choose the best alpha on a third set
  %(prog)s ZERO_SHOT.pth FINE_TUNED.pth --config CONFIG \\
      --eval sketch SKETCH_CONFIG.py \\
      --eval held_out dataset.data_prefix=held_out \\
      --choose best:held_out --out OUT.pth
"""
TABLE = 'table.md'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('zero_shot', help='the checkpoint at alpha 0')
    add('fine_tuned', help='the checkpoint at alpha 1')
    add(
        '--config',
        required=True,
        help="the config of both models; its test set is called 'clean'",
    )
    add(
        '--alphas',
        default='0:1:0.1',
        metavar='FIRST:LAST:STEP|A,B,C',
        help='the alphas to test (default: %(default)s)',
    )
    add(
        '--eval',
        nargs='+',
        action='append',
        default=[],
        metavar=('NAME', 'FILE|KEY=VALUE'),
        help='another data set: its name, and a config file with it as the '
        "test set, or changes to the config's test_dataloader; may be given "
        'several times',
    )
    add('--metric', default='top1', help='the metric (default: %(default)s)')
    add(
        '--choose',
        default='0.5',
        metavar='ALPHA|best:NAME',
        help='the weights for OUT: an alpha, or the best alpha on the data '
        'set NAME (default: %(default)s)',
    )
    add('--out', type=Path, help='where to write the chosen weights')
    parser.add_force('OUT and the table, if they exist')
    add(
        '--same-classes',
        action='store_true',
        help='accept checkpoints with different class names that mean the '
        'same classes in the same order',
    )
    add(
        '--work-dir',
        help='folder for the table, the curve and the log (default: '
        "interpolation in the config's work_dir)",
    )
    parser.add_cfg_options('test_dataloader.batch_size=8')
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.averaging.data_sets import NEEDED
    from mmclip.averaging.weight_space import parse_alphas
    from mmclip.checkpoint.files.paths import check_free, check_out
    from mmclip.evaluation.config import load_config_with

    if args.out:
        inputs = args.zero_shot, args.fine_tuned
        check_out(args.out, *inputs, force=args.force)
    check_arguments(args)
    alphas = parse_alphas(args.alphas)
    if not args.choose.startswith('best:'):
        alphas = sorted({*alphas, *parse_alphas(args.choose)})
    cfg = load_config_with(NEEDED, args.config, args.cfg_options)
    cfg.work_dir = args.work_dir or f'{cfg.work_dir}/interpolation'
    check_free(Path(cfg.work_dir) / TABLE, force=args.force)
    cfg.log_level = 'WARNING'  # the table says it all
    run(args, alphas, cfg)
    return 0


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse arguments that would otherwise fail only after the tests."""
    from mmclip.averaging.data_sets import CLEAN
    from mmclip.averaging.weight_space import parse_alphas

    if Path(args.zero_shot).resolve() == Path(args.fine_tuned).resolve():
        raise ArgumentError(f'Both checkpoints are {args.zero_shot}.')
    names = [CLEAN, *(name for name, *_ in args.eval)]
    if len(set(names)) < len(names):
        raise ArgumentError(
            f'Data sets need different names; got {", ".join(names)}.'
        )
    best = args.choose.removeprefix('best:')
    if args.choose != best and best not in names:
        raise ArgumentError(
            f'--choose {args.choose}: no data set is called {best!r}, only '
            f'{", ".join(names)}.'
        )
    if args.choose == best and len(parse_alphas(args.choose)) > 1:
        raise ArgumentError(
            f'--choose {args.choose}: OUT holds the weights of one alpha; '
            'give one, or best:NAME.'
        )


def run(args: argparse.Namespace, alphas: list[float], cfg: Any) -> None:
    from tqdm import tqdm

    from mmclip.averaging.average import averaged_checkpoint, interpolate
    from mmclip.averaging.data_sets import data_sets
    from mmclip.averaging.weight_space import (
        WeightTester,
        curve_to_markdown,
        write_curve,
    )
    from mmclip.checkpoint import write_checkpoint
    from mmclip.evaluation import build_test_runner, tell_classes

    ends = read_ends(args)
    zero_shot, fine_tuned = (end['state_dict'] for end in ends.values())
    runner = build_test_runner(cfg)
    for path, checkpoint in reversed(ends.items()):
        tell_classes(runner, checkpoint, path)
    test = WeightTester(runner, data_sets(runner.cfg, args.eval), args.metric)
    weights = (interpolate(zero_shot, fine_tuned, alpha) for alpha in alphas)
    total = len(alphas) * test.num_batches
    with tqdm(total=total, unit='batch') as bar:  # ends it before an error
        scores = test.each(weights, bar.update)
        curve = dict(zip(alphas, scores, strict=True))
    chosen = choose(curve, args.choose)
    names = ('zero_shot', 'fine_tuned', 'config', 'metric', 'choose')
    about = {name: getattr(args, name) for name in names}
    write_curve(curve, chosen, cfg.work_dir, about)
    print(f'\n{curve_to_markdown(curve, chosen)}')
    folder = Path(cfg.work_dir)
    files: list[tuple[Path, str]] = [
        (folder / TABLE, 'the table'),
        (folder / 'curve.json', 'all numbers'),
        (folder / 'curve.png', 'the plot'),
    ]
    then = ''
    if args.out:
        best = interpolate(zero_shot, fine_tuned, chosen)
        shares = dict(zip(ends, (1 - chosen, chosen), strict=True))
        write_checkpoint(averaged_checkpoint(best, ends, shares), args.out)
        files.append((args.out, f'the weights at alpha {chosen:g}'))
        then = command_line('test', args.config, args.out)
    print_written(*files, then=then)


def read_ends(args: argparse.Namespace) -> dict[str, Any]:
    """Read both checkpoints, by path, and check that they fit each other."""
    from mmclip.averaging.average import check_compatible, read_weights

    ends = {
        path: read_weights(path) for path in (args.zero_shot, args.fine_tuned)
    }
    for note in check_compatible(ends, same_classes=args.same_classes):
        print(f'note: {note}')
    return ends


def choose(curve: dict[float, dict[str, float]], wanted: str) -> float:
    """Return the alpha that ``--choose`` asks for."""
    from mmclip.averaging.weight_space import best_alpha, parse_alphas

    if not wanted.startswith('best:'):
        return parse_alphas(wanted)[0]
    name = wanted.removeprefix('best:')
    chosen = best_alpha(curve, name)
    print(
        f'\nalpha {chosen:g} is best on {name}; as it was chosen there, its '
        f'accuracy on {name} does not hold for new images'
    )
    return chosen
