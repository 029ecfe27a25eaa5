"""Evaluate a model on ImageNet and on whatever of its shifts is there."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.runner import CheckpointLoader, Runner

from mmclip.averaging.weight_space import load_weights
from mmclip.checkpoint import CheckpointError
from mmclip.checkpoint.files.paths import check_folder
from mmclip.checkpoint.state_dict import weights_of
from mmclip.checkpoint.unconverted import advise
from mmclip.evaluation import build_test_runner, tell_classes
from mmclip.evaluation.baseline import TABLES, Baseline, fit_baseline
from mmclip.evaluation.config import load_config_with
from mmclip.evaluation.robustness import (
    NAMES,
    check_head,
    evaluate_robustness,
    find_sets,
)
from mmclip.evaluation.robustness_report import write_report

EXAMPLES = """examples:
  python %(prog)s configs/clip/clip-l-336.py work_dirs/clip-l-336/epoch_30.pth
  python %(prog)s CONFIG CHECKPOINT --data-root /data --datasets imagenet-r
  torchrun --nproc_per_node 8 %(prog)s CONFIG CHECKPOINT --launcher pytorch
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        'config', help='the config file; its test pipeline prepares the images'
    )
    add('checkpoint', help='the checkpoint, as tools/test.py takes it')
    add(
        '--data-root',
        default='data',
        help='the folder that holds the folders of the data sets (default: '
        '%(default)s)',
    )
    add(
        '--datasets',
        nargs='+',
        choices=NAMES,
        metavar='NAME',
        help=f'only these, which must be there: {", ".join(NAMES)}',
    )
    add(
        '--baseline',
        type=Path,
        metavar='DIR',
        help="the folder results/ of timm's repository, whose standard "
        'models effective robustness is measured against; without it, the '
        'table has no such column',
    )
    add(
        '--out',
        type=Path,
        help='a folder for table.md, table.json and plot.png (default: '
        'robustness in the work directory)',
    )
    add('--work-dir', help='where the log goes')
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override the config, such as test_dataloader.batch_size=256',
    )
    add(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes were started',
    )
    add('--local_rank', '--local-rank', default='0', help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', args.local_rank)
    try:
        run(args)
    except (CheckpointError, OSError, ValueError) as error:
        sys.exit(f'error: {error}')


def run(args: argparse.Namespace) -> None:
    cfg = load_config_with(
        ('test_dataloader',), args.config, args.cfg_options, args.work_dir
    )
    cfg.launcher = args.launcher
    out = args.out or Path(cfg.work_dir) / 'robustness'
    for folder in (out, Path(cfg.work_dir)):
        check_folder(folder)
    sets, missing = choose_sets(cfg, args)
    baselines = fit_baselines(args.baseline, sets)

    runner = build_test_runner(cfg)
    check_head(runner)
    load(runner, args.checkpoint)
    facts = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        folders={name: str(d['data_root']) for name, d in sets.items()},
        not_found=missing,
        baselines={name: vars(b) for name, b in baselines.items()},
    )
    results, table = [], ''
    for result in evaluate_robustness(runner, sets, baselines):
        results.append(result)
        if is_main_process():  # after each set, so that a crash keeps them
            table = write_report(results, out, facts)
    if is_main_process():
        print(f'\n{table}\nwrote table.md, table.json and plot.png to {out}')


def load(runner: Runner, path: str) -> None:
    """Load all weights; mmengine's way would go on with random ones.

    Raises:
        CheckpointError: If they do not fit the model, key by key.
    """
    checkpoint = CheckpointLoader.load_checkpoint(path, 'cpu')
    state_dict = weights_of(checkpoint, path)
    try:
        load_weights(runner, state_dict)
    except CheckpointError as error:
        reason = advise(path, state_dict) or error
        raise CheckpointError(f'{path}: {reason}') from None
    tell_classes(runner, checkpoint, path)
    runner.logger.info(f'Load checkpoint from {path}')


def choose_sets(
    cfg: Config, args: argparse.Namespace
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """What is there, after saying what is not.

    Raises:
        ValueError: If nothing is there, or not all that was asked for.
    """
    sets, missing = find_sets(cfg, args.data_root, args.datasets or NAMES)
    for name, tried in missing.items():
        print(f'{name} not found: looked for class folders in')
        print('\n'.join(f'  {folder}' for folder in tried), flush=True)
    if not sets or (args.datasets and missing):
        raise ValueError(
            f'Not found: {", ".join(missing)}. Give the folder that holds the '
            'folders of the data sets with --data-root, or choose others '
            'with --datasets.'
        )
    print(f'evaluating {", ".join(sets)}', flush=True)
    return sets, missing


def fit_baselines(
    tables: Path | None, sets: dict[str, dict[str, Any]]
) -> dict[str, Baseline]:
    """A baseline for each set that timm has tables for."""
    if tables is None:
        return {}
    baselines = {}
    for name in sets:
        if name not in TABLES:
            continue
        baseline = fit_baseline(*(tables / table for table in TABLES[name]))
        baselines[name] = baseline
        print(
            f'baseline of {name}: {baseline.models} models, correlation '
            f'{baseline.correlation:.3f}'
        )
    return baselines


if __name__ == '__main__':
    main()
