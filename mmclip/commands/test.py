"""Test a model, with the options of mmpretrain's tools/test.py."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmclip.commands._command_line import (
    Parser,
    check_files,
    command,
    positive,
    print_written,
)

if TYPE_CHECKING:
    from mmengine.config import Config

EXAMPLES = """\
  %(prog)s configs/clip/clip-l-336.py work_dirs/clip-l-336/epoch_30.pth
  %(prog)s CONFIG CHECKPOINT --out metrics.json --out-item metrics
  # only the metrics on the screen; the log file has everything
  %(prog)s CONFIG CHECKPOINT --cfg-options log_level=WARNING
  # on 8 GPUs
  mmclip launch --nproc_per_node 8 test CONFIG CHECKPOINT
"""
# What mmengine can write.
SUFFIXES = {
    'metrics': ('.json', '.yaml', '.yml', '.pkl', '.pickle'),
    'pred': ('.pkl', '.pickle'),
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('config', help='the config file')
    add('checkpoint', help='the checkpoint to test')
    add('--work-dir', help='folder for the log')
    add('--out', help='a file for the results')
    add(
        '--out-item',
        choices=list(SUFFIXES),
        help='what goes into OUT: predictions (default; .pkl) or metrics '
        '(.json, .yaml, .pkl)',
    )
    parser.add_force()
    add('--amp', action='store_true', help='test in mixed precision')
    add('--show-dir', help='a folder for pictures of the predictions')
    add('--show', action='store_true', help='show predictions in a window')
    add(
        '--interval',
        type=positive(int),
        default=1,
        help='draw every Nth image',
    )
    add('--wait-time', type=float, default=2, help='seconds per picture')
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
    parser.add_cfg_options('test_dataloader.batch_size=8')
    parser.add_launcher()
    args = parser.parse(argv)
    displays = 'DISPLAY', 'WAYLAND_DISPLAY'
    if args.show and sys.platform == 'linux':
        if not any(os.environ.get(name) for name in displays):
            parser.error('there is no display: use --show-dir DIR')
    if args.out_item and not args.out:
        parser.error('--out-item needs --out')
    args.out_item = args.out_item or 'pred'
    suffixes = SUFFIXES[args.out_item]
    if args.out and Path(args.out).suffix not in suffixes:
        ways = [f'must end in {" or ".join(suffixes)}']
        if args.out_item == 'pred':
            ways += ['be for metrics: --out-item metrics']
        parser.error(f'--out {args.out} {", or ".join(ways)}')
    return args


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    check_files(args)
    run(args)
    return 0


def run(args: argparse.Namespace) -> None:
    """Test the model that the arguments name."""
    from mmclip.checkpoint.files.paths import check_folder, check_free

    if args.out:
        inputs = args.config, args.checkpoint
        check_free(Path(args.out), *inputs, force=args.force)
    if args.show_dir:
        check_folder(Path(args.show_dir))
    import mmengine
    from mmengine.dist import is_main_process
    from mmengine.evaluator import DumpResults

    from mmclip.engine.checks.places import check_places
    from mmclip.engine.config.build import build_runner, naming_the_config
    from mmclip.engine.distributed.processes import use_gloo_without_gpu
    from mmclip.evaluation.config import load_config_with
    from mmclip.evaluation.test_time_augmentation import leave_out_averaging

    cfg = load_config_with(
        ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'),
        args.config,
        args.cfg_options,
        args.work_dir,
    )
    apply_args(cfg, args)
    check_places(cfg, ('test_dataloader',))
    use_gloo_without_gpu(cfg)
    runner = build_runner(cfg)
    if args.tta:
        leave_out_averaging(runner)
    if args.out and args.out_item == 'pred':
        runner.test_evaluator.metrics.append(DumpResults(args.out))
    with naming_the_config(cfg):  # builds the data sets
        metrics = runner.test()
    if not is_main_process():
        return
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)
    what = 'metrics' if args.out_item == 'metrics' else 'predictions'
    files = [(args.out, what), (args.show_dir, 'pictures of predictions')]
    print_written(*(file for file in files if file[0]))


def apply_args(cfg: 'Config', args: argparse.Namespace) -> None:
    """Write the options into the config."""
    import torch

    from mmclip.engine.config.load import complete_dataloaders
    from mmclip.evaluation.show_predictions import show_predictions
    from mmclip.evaluation.test_time_augmentation import (
        use_test_time_augmentation,
    )

    cfg.launcher = args.launcher
    cfg.load_from = args.checkpoint
    cfg.resume = False  # the config of a resumed run has True
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
