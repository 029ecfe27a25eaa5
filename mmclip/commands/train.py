"""Train a model: the options of mmpretrain's tools/train.py."""

import argparse
import os
import signal
import sys

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmclip.checkpoint import CheckpointError
from mmclip.engine import NonFiniteLossError
from mmclip.engine.checks.places import check_places
from mmclip.engine.config.load import complete_dataloaders, load_config
from mmclip.engine.distributed.processes import (
    exit_argument,
    use_gloo_without_gpu,
)
from mmclip.engine.resume.find_checkpoint import has_checkpoints
from mmclip.engine.resume.interrupt_hook import InterruptHook
from mmclip.engine.resume.signals import end_at_once
from mmclip.errors import ConfigError, DataError

EXAMPLES = """examples:
  python %(prog)s configs/clip/clip-l-336.py
  python %(prog)s configs/clip/clip-l-336.py --amp --resume
  bash tools/dist_train.sh configs/clip/clip-l-336.py 8 --auto-scale-lr
"""
BFLOAT16 = 'mmclip.BFloat16OptimWrapper'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='the config file')
    add('--work-dir', help='where logs and checkpoints go')
    add(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from CHECKPOINT, or from the latest in the work directory',
    )
    add(
        '--resume-with-new-schedule',
        action='store_true',
        help='resume (the latest, or what --resume names) with the rates, '
        'decays and schedules of the config, although they are not those of '
        'the checkpoint',
    )
    add('--amp', action='store_true', help='train in mixed precision')
    add('--no-validate', action='store_true', help='do not validate')
    add(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the number of processes x batch '
        "size over the config's base_batch_size",
    )
    add(
        '--no-pin-memory',
        action='store_true',
        help='do not pin the memory of batches',
    )
    add(
        '--no-persistent-workers',
        action='store_true',
        help='start the data workers anew each epoch',
    )
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override the config, such as optim_wrapper.optimizer.lr=1e-4',
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
    end_at_once(several=args.launcher != 'none')
    mpi = os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', args.local_rank)
    os.environ.setdefault('LOCAL_RANK', mpi)
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    apply_args(cfg, args)
    check_places(cfg, ('train_dataloader', 'val_dataloader'))
    use_gloo_without_gpu(cfg)
    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    runner = build(cfg)
    if not any(isinstance(hook, InterruptHook) for hook in runner.hooks):
        # Loggers and workers are to be closed.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    runner.train()


def apply_args(cfg: Config, args: argparse.Namespace) -> None:
    """Write the options into the config."""
    cfg.launcher = args.launcher
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_mixed_precision(cfg.optim_wrapper)
    if args.resume_with_new_schedule:
        args.resume = args.resume or 'auto'
        use_new_schedule(cfg)
    resumes = args.resume == 'auto'
    if resumes and cfg.get('load_from') and not has_checkpoints(cfg):
        print(f'No checkpoint yet: training starts from {cfg.load_from}.')
    elif args.resume:
        cfg.resume = True
        cfg.load_from = None if resumes else args.resume
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ValueError(
                '--auto-scale-lr needs to know for how many images a pass the '
                'rate is: set auto_scale_lr=dict(base_batch_size=...) in the '
                'config.'
            )
        cfg.auto_scale_lr.enable = True
    complete_dataloaders(
        cfg,
        pin_memory=not args.no_pin_memory and torch.cuda.is_available(),
        persistent_workers=not args.no_persistent_workers,
    )


def use_new_schedule(cfg: Config) -> None:
    """Tell the hook that compares a checkpoint with the config."""
    kind = 'mmclip.ExactResumeHook'
    custom_hooks = cfg.get('custom_hooks') or []
    hooks = [*cfg.get('default_hooks', {}).values(), *custom_hooks]
    found = [hook for hook in hooks if hook and hook.get('type') == kind]
    for hook in found:
        hook.new_schedule = True
    if not found:
        cfg.custom_hooks = [*custom_hooks, dict(type=kind, new_schedule=True)]


def use_mixed_precision(optim_wrapper: ConfigDict) -> None:
    """Have the forward pass in float16, or bfloat16 where that is better.

    Raises:
        ValueError: If the optimizer wrapper is one of another kind.
    """
    kind = optim_wrapper.get('type', 'OptimWrapper')
    if kind == BFLOAT16:
        return
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(
            '--amp takes the place of an OptimWrapper or AmpOptimWrapper, and '
            f'optim_wrapper.type is {kind!r}: leave --amp out, and set the '
            'precision in the config.'
        )
    bfloat16 = optim_wrapper.get('dtype') == 'bfloat16'
    if torch.cuda.is_available() and not bfloat16:
        optim_wrapper.type = 'AmpOptimWrapper'
        optim_wrapper.setdefault('loss_scale', 'dynamic')
        return
    optim_wrapper.type = BFLOAT16
    for key in ('dtype', 'loss_scale', 'use_fsdp'):  # of AmpOptimWrapper
        optim_wrapper.pop(key, None)


if __name__ == '__main__':
    try:
        main()
    except (
        CheckpointError,
        ConfigError,
        DataError,
        NonFiniteLossError,
        OSError,
    ) as error:
        sys.exit(exit_argument(error))
