"""Test the weights between a zero-shot and a fine-tuned model (WiSE-FT)."""

import argparse
import copy
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from tqdm import tqdm

from mmclip.averaging.average import (
    averaged_checkpoint,
    check_compatible,
    interpolate,
    read_weights,
)
from mmclip.averaging.weight_space import (
    WeightTester,
    best_alpha,
    curve_to_markdown,
    parse_alphas,
    write_curve,
)
from mmclip.checkpoint import CheckpointError, write_checkpoint
from mmclip.checkpoint.files.paths import check_folder, check_out
from mmclip.engine.config.check import check_keys
from mmclip.engine.config.load import complete_dataloaders
from mmclip.evaluation import build_test_runner, tell_classes
from mmclip.evaluation.config import load_config_with

EXAMPLES = """examples:
  # the config's test set (clean), and another folder of its data set
  %(prog)s ZERO_SHOT.pth FINE_TUNED.pth --config CONFIG \\
      --eval shifted dataset.data_prefix=val_shifted --out OUT.pth
  # one of ImageNet's shifts, with the config's pipeline
  %(prog)s ZERO_SHOT.pth FINE_TUNED.pth --config CONFIG \\
      --eval r dataset.type=mmclip.ImageNetR dataset.data_root=data/imagenet-r
  # the test set of another config; the alpha that is best on a third
  %(prog)s ZERO_SHOT.pth FINE_TUNED.pth --config CONFIG \\
      --eval sketch SKETCH_CONFIG.py \\
      --eval held_out dataset.data_prefix=held_out \\
      --choose best:held_out --out OUT.pth
"""
CLEAN = 'clean'
NEEDED = ('test_dataloader', 'test_evaluator')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('zero_shot', help='the checkpoint of alpha 0')
    add('fine_tuned', help='the checkpoint of alpha 1')
    add(
        '--config',
        required=True,
        help="the config of both; its test set is called 'clean'",
    )
    add(
        '--alphas',
        default='0:1:0.1',
        metavar='FIRST:LAST:STEP|A,B,C',
        help='what to test (default: %(default)s)',
    )
    add(
        '--eval',
        nargs='+',
        action='append',
        default=[],
        metavar=('NAME', 'FILE|KEY=VALUE'),
        help='one more data set: its name, and a config file whose test set '
        "it is, or what to change in the config's test_dataloader; may be "
        'given several times',
    )
    add('--metric', default='top1', help='what counts (default: %(default)s)')
    add(
        '--choose',
        default='0.5',
        metavar='ALPHA|best:NAME',
        help="the weights for OUT: an alpha, or that which is best on NAME's "
        'data (default: %(default)s)',
    )
    add('--out', type=Path, help='where to write the chosen weights')
    add('--force', action='store_true', help='overwrite OUT if it exists')
    add(
        '--same-classes',
        action='store_true',
        help='the class names in the checkpoints differ, but mean the same '
        'classes in the same order',
    )
    add(
        '--work-dir',
        help='where the table, the curve and the log go (default: the folder '
        "interpolation in the config's)",
    )
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override the config, such as test_dataloader.batch_size=8',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        check_arguments(args)
        run(args)
    except (CheckpointError, OSError, ValueError) as error:
        sys.exit(f'error: {error}')


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what would only fail after the tests."""
    if args.out:
        check_out(args.out, force=args.force)
    names = [CLEAN, *(name for name, *_ in args.eval)]
    if len(set(names)) < len(names):
        raise ValueError(f'Two data sets have one name: {", ".join(names)}.')
    best = args.choose.removeprefix('best:')
    if args.choose != best and best not in names:
        raise ValueError(
            f'--choose {args.choose}: the data sets are {", ".join(names)}.'
        )
    if args.choose == best and len(parse_alphas(args.choose)) > 1:
        raise ValueError(
            f'--choose {args.choose}: OUT has the weights of one alpha; give '
            'one, or best:NAME.'
        )


def run(args: argparse.Namespace) -> None:
    alphas = parse_alphas(args.alphas)
    if not args.choose.startswith('best:'):
        alphas = sorted({*alphas, *parse_alphas(args.choose)})
    cfg = load_config_with(NEEDED, args.config, args.cfg_options)
    cfg.work_dir = args.work_dir or f'{cfg.work_dir}/interpolation'
    check_folder(Path(cfg.work_dir))
    cfg.log_level = 'WARNING'  # the table says it all
    ends = read_ends(args)
    zero_shot, fine_tuned = (end['state_dict'] for end in ends.values())

    runner = build_test_runner(cfg)
    for path, checkpoint in reversed(ends.items()):
        tell_classes(runner, checkpoint, path)
    test = WeightTester(runner, data_sets(runner.cfg, args.eval), args.metric)
    curve = {
        alpha: test(interpolate(zero_shot, fine_tuned, alpha))
        for alpha in tqdm(alphas, unit='alpha')
    }
    chosen = choose(curve, args.choose)
    write_curve(
        curve,
        chosen,
        cfg.work_dir,
        dict(
            zero_shot=args.zero_shot,
            fine_tuned=args.fine_tuned,
            config=args.config,
            metric=args.metric,
            choose=args.choose,
        ),
    )
    print(f'\n{curve_to_markdown(curve, chosen)}')
    print(f'wrote table.md, curve.json and curve.png to {cfg.work_dir}')
    if args.out:
        weights = interpolate(zero_shot, fine_tuned, chosen)
        shares = dict(zip(ends, (1 - chosen, chosen), strict=True))
        write_checkpoint(averaged_checkpoint(weights, ends, shares), args.out)
        print(f'wrote: {args.out} (alpha {chosen:g})')


def read_ends(args: argparse.Namespace) -> dict[str, Any]:
    """Both checkpoints by path, if they fit one another."""
    if Path(args.zero_shot).resolve() == Path(args.fine_tuned).resolve():
        raise ValueError(f'Both checkpoints are {args.zero_shot}.')
    ends = {
        path: read_weights(path) for path in (args.zero_shot, args.fine_tuned)
    }
    for note in check_compatible(ends, same_classes=args.same_classes):
        print(f'note: {note}')
    return ends


def data_sets(
    cfg: Config, wanted: list[list[str]]
) -> dict[str, tuple[dict[str, Any], Any]]:
    """The dataloader and the evaluator of each data set, by name."""
    sets = {CLEAN: (cfg.test_dataloader, cfg.test_evaluator)}
    for name, *said in wanted:
        if len(said) == 1 and Path(said[0]).suffix in ('.py', '.json', '.yml'):
            other = load_config_with(NEEDED, said[0])
            complete_dataloaders(other, pin_memory=torch.cuda.is_available())
            sets[name] = (other.test_dataloader, other.test_evaluator)
            continue
        if not said or not all('=' in pair for pair in said):
            raise ValueError(
                f'--eval {" ".join([name, *said])}: after the name comes a '
                'config file, or one or more KEY=VALUE.'
            )
        try:
            loader = changed_loader(cfg, said, name)
            sets[name] = (loader, cfg.test_evaluator)
        except ValueError as error:
            raise ValueError(
                f'--eval {" ".join([name, *said])}: {error}'
            ) from None
    return sets


def changed_loader(cfg: Config, said: list[str], name: str) -> dict[str, Any]:
    """The config's test_dataloader with what was said by KEY=VALUE.

    Raises:
        ValueError: If there is nothing to change at a key, or nothing reads
            what would be there.
    """
    pairs = (pair.split('=', 1) for pair in said)
    options = {
        f'test_dataloader.{key}': DictAction._parse_iterable(value)
        for key, value in pairs
    }
    loader = copy.deepcopy(cfg.test_dataloader)
    if kind := options.get('test_dataloader.dataset.type'):
        leave_out_foreign(loader.dataset, kind, name)
    changed = Config(
        dict(
            default_scope=cfg.get('default_scope', 'mmengine'),
            test_dataloader=loader,
        )
    )
    try:
        changed.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise ValueError(error.args[0]) from None
    check_keys(changed)
    return changed.test_dataloader


def leave_out_foreign(dataset: dict[str, Any], kind: str, name: str) -> None:
    """Remove, with a note, what means nothing to a data set of another type.

    Such as the ``split`` of ImageNet to one of its shifts.
    """
    kept = ('type', 'data_root', 'pipeline')
    foreign = [key for key in dataset if key not in kept]
    if kind == dataset['type'] or not foreign:
        return
    print(
        f'note: --eval {name}: {kind} takes pipeline and data_root of the '
        f"config's {dataset['type']}, and not {', '.join(foreign)}."
    )
    for key in foreign:
        del dataset[key]


def choose(curve: dict[float, dict[str, float]], wanted: str) -> float:
    """The alpha that was asked for."""
    if not wanted.startswith('best:'):
        return parse_alphas(wanted)[0]
    name = wanted.removeprefix('best:')
    chosen = best_alpha(curve, name)
    print(
        f'\nalpha {chosen:g} is best on {name}; having been chosen there, its '
        f'{name} number is not that of new images'
    )
    return chosen


if __name__ == '__main__':
    main()
