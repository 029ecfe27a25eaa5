"""Test a model: the options of mmpretrain's tools/test.py."""

import argparse
import os
import sys
from pathlib import Path

import mmengine
import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.hooks import EMAHook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmclip.checkpoint import CheckpointError
from mmclip.checkpoint.files.paths import check_folder, check_free
from mmclip.engine.checks.places import check_places
from mmclip.engine.config.load import complete_dataloaders, load_config
from mmclip.engine.config.scopes import CLASSIFYING, scope_of
from mmclip.engine.distributed.processes import (
    exit_argument,
    use_gloo_without_gpu,
)
from mmclip.errors import ConfigError, DataError
from mmclip.evaluation.show_predictions import show_predictions

EXAMPLES = """examples:
  python %(prog)s configs/clip/clip-l-336.py work_dirs/clip-l-336/epoch_30.pth
  python %(prog)s CONFIG CHECKPOINT --out metrics.json --out-item metrics
  bash tools/dist_test.sh CONFIG CHECKPOINT 8
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='the config file')
    add('checkpoint', help='the checkpoint to test')
    add('--work-dir', help='where the log goes')
    add('--out', help='a file for the results (.pkl, .json, .yaml)')
    add(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what goes into OUT: predictions (default; .pkl) or metrics',
    )
    add('--amp', action='store_true', help='test in mixed precision')
    add('--show-dir', help='a folder for pictures of the predictions')
    add('--show', action='store_true', help='show predictions in a window')
    add('--interval', type=int, default=1, help='picture every Nth image')
    add('--wait-time', type=float, default=2, help='seconds a window stays')
    add(
        '--no-pin-memory',
        action='store_true',
        help='do not pin the memory of batches',
    )
    add(
        '--tta',
        action='store_true',
        help="average over the config's tta_pipeline, by default the image "
        'and its mirror image',
    )
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override the config, such as test_dataloader.batch_size=8',
    )
    add(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes were started',
    )
    add('--local_rank', '--local-rank', default='0', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.out_item and not args.out:
        parser.error('--out-item needs --out')
    try:
        if args.out:
            check_free(Path(args.out), force=True)
        if args.show_dir:
            check_folder(Path(args.show_dir))
    except CheckpointError as error:
        sys.exit(f'error: {error}')
    return args


def main() -> None:
    args = parse_args()
    mpi = os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', args.local_rank)
    os.environ.setdefault('LOCAL_RANK', mpi)
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    apply_args(cfg, args)
    check_places(cfg, ('test_dataloader',))
    use_gloo_without_gpu(cfg)
    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    runner = build(cfg)
    if args.tta:
        leave_out_averaging(runner)
    if args.out and args.out_item != 'metrics':
        runner.test_evaluator.metrics.append(DumpResults(args.out))
    metrics = runner.test()
    if args.out_item == 'metrics' and is_main_process():
        mmengine.dump(metrics, args.out)


def apply_args(cfg: Config, args: argparse.Namespace) -> None:
    """Write the options into the config."""
    cfg.launcher = args.launcher
    cfg.load_from = args.checkpoint
    cfg.resume = False  # as the config of a resumed run has it
    if args.amp:
        cfg.test_cfg.fp16 = True  # autocast; bfloat16 on the CPU
    if args.show or args.show_dir:
        show_predictions(
            cfg,
            folder=args.show_dir,
            show=args.show,
            wait_time=args.wait_time,
            interval=args.interval,
        )
    if args.tta:
        use_test_time_augmentation(cfg)
    complete_dataloaders(
        cfg, pin_memory=not args.no_pin_memory and torch.cuda.is_available()
    )


def use_test_time_augmentation(cfg: Config) -> None:
    """Wrap the model so that it averages over several views of an image.

    Raises:
        ValueError: If a config of another package than mmpretrain does not
            say which views, or how they are averaged.
    """
    dataset = cfg.test_dataloader.dataset
    missing = [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]
    if missing and scope_of(cfg, dataset) not in CLASSIFYING:
        raise ValueError(
            f'--tta needs {" and ".join(missing)} in {cfg.filename}: set '
            f'{"them" if missing[1:] else "it"} as {scope_of(cfg, dataset)} '
            'documents it.'
        )
    while 'dataset' in dataset:
        dataset = dataset.dataset
    *prepare, pack = dataset.pipeline
    views = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
    cfg.setdefault(
        'tta_pipeline',
        [*prepare, dict(type='TestTimeAug', transforms=[views, [pack]])],
    )
    cfg.setdefault('tta_model', dict(type='mmpretrain.AverageClsScoreTTA'))
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def leave_out_averaging(runner: Runner) -> None:
    """Remove ``EMAHook``, which does not find its averages in a TTA model.

    It would test random weights. A checkpoint's ``state_dict`` has the
    averages already.
    """
    runner._hooks = [h for h in runner._hooks if not isinstance(h, EMAHook)]


if __name__ == '__main__':
    try:
        main()
    except (CheckpointError, ConfigError, DataError, OSError) as error:
        sys.exit(exit_argument(error))
