"""Evaluate a model on ImageNet and the shifted test sets that you have."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmclip.commands._command_line import (
    Parser,
    check_files,
    command,
    print_written,
)
from mmclip.errors import CheckpointError, DataError, some

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner

    from mmclip.evaluation.baseline import Baseline

EXAMPLES = """\
  %(prog)s configs/clip/clip-l-336.py work_dirs/clip-l-336/epoch_30.pth
  %(prog)s CONFIG CHECKPOINT --data-root /data --datasets imagenet-r
  # on 8 GPUs
  mmclip launch --nproc_per_node 8 robustness CONFIG CHECKPOINT
"""
NAMES = (
    'imagenet',
    'imagenet-real',
    'imagenetv2-matched-frequency',
    'imagenetv2-threshold0.7',
    'imagenetv2-top-images',
    'imagenet-r',
    'imagenet-a',
    'imagenet-sketch',
    'objectnet',
)
TABLE = 'table.md'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add(
        'config', help='the config file; its test pipeline prepares the images'
    )
    add('checkpoint', help='the checkpoint to evaluate')
    add(
        '--data-root',
        default='data',
        help='the folder with one folder per data set (default: %(default)s)',
    )
    add(
        '--datasets',
        nargs='+',
        choices=NAMES,
        metavar='NAME',
        help=f'evaluate only these, and require them: {", ".join(NAMES)}',
    )
    add(
        '--baseline',
        type=Path,
        metavar='DIR',
        help="the folder results/ of timm's repository, with the standard "
        'models that effective robustness is measured against; without it, '
        'the table has no such column',
    )
    add(
        '--out',
        type=Path,
        help='a folder for table.md, table.json and plot.png (default: '
        'robustness in the work directory)',
    )
    parser.add_force('the table in OUT, if there is one')
    add('--work-dir', help='folder for the log')
    parser.add_cfg_options('test_dataloader.batch_size=256')
    parser.add_launcher()
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    check_files(args)
    from mmengine.dist import is_main_process
    from mmengine.runner import CheckpointLoader

    from mmclip.checkpoint.files.paths import check_folder, check_free
    from mmclip.evaluation import build_test_runner
    from mmclip.evaluation.config import load_config_with
    from mmclip.evaluation.robustness import check_head, evaluate_robustness
    from mmclip.evaluation.robustness_report import write_report

    cfg = load_config_with(
        ('model', 'test_dataloader'),
        args.config,
        args.cfg_options,
        args.work_dir,
    )
    cfg.launcher = args.launcher
    out = args.out or Path(cfg.work_dir) / 'robustness'
    check_free(out / TABLE, force=args.force)
    check_folder(Path(cfg.work_dir))
    sets, missing = choose_sets(cfg, args)
    baselines = fit_baselines(args.baseline, sets)

    checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu')
    runner = build_test_runner(cfg)
    check_head(runner)
    load(runner, args.checkpoint, checkpoint)
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
        if is_main_process():  # after each set, so that a crash loses none
            table = write_report(results, out, facts)
    if is_main_process():
        print(f'\n{table}')
        print_written(
            (out / TABLE, 'the table'),
            (out / 'table.json', 'all numbers'),
            (out / 'plot.png', 'the plot'),
        )
    return 0


def load(runner: 'Runner', path: str, checkpoint: dict[str, Any]) -> None:
    """Load all weights; mmengine would keep random ones for missing keys.

    Raises:
        CheckpointError: If a weight is missing, unexpected or misshapen.
    """
    from mmclip.averaging.weight_space import load_weights
    from mmclip.checkpoint.describe import unwrapped
    from mmclip.checkpoint.state_dict import weights_of
    from mmclip.checkpoint.unconverted import advise, lacks_classifier
    from mmclip.evaluation import tell_classes

    state_dict = weights_of(checkpoint, path)
    try:
        load_weights(runner, state_dict)
    except CheckpointError as error:
        reason = (
            lacks_classifier(path, state_dict, unwrapped(runner.model))
            or advise(path, state_dict)
            or error
        )
        raise CheckpointError(f'{path}: {reason}') from None
    tell_classes(runner, checkpoint, path)
    runner.logger.info(f'Load checkpoint from {path}')


def choose_sets(
    cfg: 'Config', args: argparse.Namespace
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Find the data sets, and say where the missing ones were looked for.

    Raises:
        DataError: If none is found, or one that ``--datasets`` names is not.
    """
    from mmclip.evaluation.robustness import find_sets

    sets, missing = find_sets(cfg, args.data_root, args.datasets or NAMES)
    looked = '\n'.join(
        f'  {name}: {", ".join(tried)}' for name, tried in missing.items()
    )
    if not sets or (args.datasets and missing):
        what = some(missing) if args.datasets else 'any of the data sets'
        raise DataError(
            f'{args.data_root} does not have {what}. Give the folder with one '
            'folder per data set as --data-root, or choose other sets with '
            f'--datasets. Looked for class folders in\n{looked}'
        )
    print(f'evaluating {", ".join(sets)}', flush=True)
    if missing:
        print(f'not found: looked for class folders in\n{looked}', flush=True)
    return sets, missing


def fit_baselines(
    tables: Path | None, names: Iterable[str]
) -> 'dict[str, Baseline]':
    """Fit a baseline for each set that timm has tables for."""
    from mmclip.evaluation.baseline import TABLES, fit_baseline

    if tables is None:
        return {}
    baselines = {}
    for name in names:
        if name not in TABLES:
            continue
        clean, shifted = (tables / table for table in TABLES[name])
        baselines[name] = baseline = fit_baseline(clean, shifted)
        print(
            f'baseline of {name}: {baseline.models} models, correlation '
            f'{baseline.correlation:.3f}'
        )
    return baselines
