"""Train a model, with the options of mmpretrain's tools/train.py."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmclip.commands._command_line import (
    Parser,
    check_files,
    command,
    command_line,
    print_written,
)

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner

EXAMPLES = """\
  %(prog)s configs/clip/clip-l-336.py
  %(prog)s configs/clip/clip-l-336.py --amp --resume
  # a short screen; the log file has everything
  %(prog)s configs/clip/clip-l-336.py --cfg-options log_level=WARNING
  # on 8 GPUs
  mmclip launch --nproc_per_node 8 train configs/clip/clip-l-336.py \\
      --auto-scale-lr
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('config', help='the config file')
    add('--work-dir', help='folder for logs and checkpoints')
    add(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from CHECKPOINT, or from the latest in the work '
        'directory',
    )
    add(
        '--resume-with-new-schedule',
        action='store_true',
        help='resume (from the latest, or from what --resume names) with the '
        "config's learning rates, weight decays and schedules instead of the "
        "checkpoint's",
    )
    add('--amp', action='store_true', help='train in mixed precision')
    add('--no-validate', action='store_true', help='do not validate')
    add(
        '--auto-scale-lr',
        action='store_true',
        help='multiply the learning rate by processes x batch size / '
        "the config's base_batch_size",
    )
    add(
        '--no-pin-memory',
        action='store_true',
        help='do not pin the memory of batches',
    )
    add(
        '--no-persistent-workers',
        action='store_true',
        help='restart the data workers every epoch',
    )
    parser.add_cfg_options('optim_wrapper.optimizer.lr=1e-4')
    parser.add_launcher()
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    check_files(args)
    run(args, argv)
    return 0


def run(args: argparse.Namespace, argv: list[str]) -> None:
    """Train the model that the arguments name."""
    from mmengine.dist import is_main_process

    from mmclip.engine.checks.places import check_places
    from mmclip.engine.config.build import build_runner, naming_the_config
    from mmclip.engine.distributed.processes import use_gloo_without_gpu
    from mmclip.engine.progress_hook import close_progress
    from mmclip.engine.resume.checkpoints_of_run import WatchHook
    from mmclip.engine.resume.interrupt_hook import InterruptHook
    from mmclip.engine.resume.signals import end_at_once
    from mmclip.evaluation.config import load_config_with

    end_at_once(several=args.launcher != 'none')
    cfg = load_config_with(
        ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'),
        args.config,
        args.cfg_options,
        args.work_dir,
    )
    apply_args(cfg, args)
    check_places(cfg, ('train_dataloader', 'val_dataloader'))
    use_gloo_without_gpu(cfg)
    runner = build_runner(cfg)
    if not any(isinstance(hook, InterruptHook) for hook in runner.hooks):
        # So that Ctrl-C closes loggers and workers.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    watch = WatchHook()
    runner.register_hook(watch)
    try:
        with naming_the_config(cfg):  # builds the data sets
            runner.train()
    except KeyboardInterrupt as stop:  # Stopped is one, too
        close_progress(runner)
        if is_main_process():
            print_stop(runner, getattr(stop, 'checkpoint', ''), args, argv)
        raise
    if is_main_process():
        print_end(runner, watch.began != runner.iter, args)


def print_end(
    runner: 'Runner', has_trained: bool, args: argparse.Namespace
) -> None:
    """Say what a finished run has written, and how to test it."""
    from mmclip.engine.resume.checkpoints_of_run import (
        checkpoints_of,
        displayed,
    )

    files, cfg = checkpoints_of(runner), runner.cfg
    then = ''
    if files and cfg.get('test_dataloader'):
        config = args.config
        if args.cfg_options:  # then the run's own config has them
            config = displayed(f'{runner.work_dir}/{Path(config).name}')
        then = command_line('test', config, next(iter(files)))
    if not has_trained:
        train = cfg.train_cfg
        key = 'max_epochs' if 'max_epochs' in train else 'max_iters'
        print(
            f'nothing was trained: the run has reached train_cfg.{key}='
            f'{train[key]} before. To train longer, raise it.'
        )
        files = {}
    print_written(*files.items(), then=then)


def print_stop(
    runner: 'Runner',
    checkpoint: str,
    args: argparse.Namespace,
    argv: list[str],
) -> None:
    """Say which checkpoint a stopped run has left, and how to go on."""
    from mmclip.engine.resume.checkpoints_of_run import (
        LAST,
        checkpoints_of,
        displayed,
    )

    if not checkpoint:  # without InterruptHook, the last one remains
        files = checkpoints_of(runner)
        checkpoint = next((p for p in files if files[p] == LAST), '')
    if not checkpoint:
        return
    words = [
        word
        for word in argv
        if word not in ('--resume', args.resume)
        and not word.startswith('--resume=')
    ]
    then = command_line('train', *words, '--resume')
    if args.launcher != 'none':  # what was typed is not known here
        then = 'the same command'
        then += '' if args.resume == 'auto' else ', with --resume'
    print_written((displayed(checkpoint), 'the run so far'), then=then)


def apply_args(cfg: 'Config', args: argparse.Namespace) -> None:
    """Write the options into the config."""
    import torch

    from mmclip.engine.config import train_options
    from mmclip.engine.config.load import complete_dataloaders

    cfg.launcher = args.launcher
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        train_options.use_mixed_precision(cfg.optim_wrapper)
    if args.resume_with_new_schedule:
        args.resume = args.resume or 'auto'
        train_options.use_new_schedule(cfg)
    if args.resume:
        train_options.resume(cfg, args.resume)
    if args.auto_scale_lr:
        train_options.scale_learning_rate(cfg)
    complete_dataloaders(
        cfg,
        pin_memory=not args.no_pin_memory and torch.cuda.is_available(),
        persistent_workers=not args.no_persistent_workers,
    )
