"""Probe a tower: logistic regression and nearest neighbours on its features.

As in the CLIP paper (arXiv 2103.00020, appendix A.3). Features are computed
once and kept in WORK_DIR/features. Writes WORK_DIR/linear_probe.pth, a
classifier that tools/test.py evaluates, and WORK_DIR/linear_probe.json.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.dist import init_dist
from mmengine.utils.dl_utils import set_multi_processing

from mmclip.checkpoint import CheckpointError, write_checkpoint
from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.checkpoint.files.paths import check_out
from mmclip.engine.config.load import complete_dataloaders
from mmclip.engine.distributed.processes import use_gloo_without_gpu
from mmclip.evaluation.config import load_config_with
from mmclip.probing import ProbeResult, probe
from mmclip.probing.logistic import Trial

EXAMPLES = """examples:
  python %(prog)s configs/clip/clip-l-336_linear-probe_in1k.py \\
      open_clip://ViT-L-14-336/openai
  # on 8 GPUs of one machine, in mixed precision
  torchrun --nproc_per_node 8 %(prog)s CONFIG CHECKPOINT --amp \\
      --launcher pytorch
"""
OUT = 'linear_probe.pth'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='the config of a classifier with a linear head')
    add(
        'checkpoint',
        help='a tower or a classifier: a file, or open_clip://NAME/TAG, '
        'timm://NAME.TAG, hf-hub:ORG/REPOSITORY, local-dir:FOLDER',
    )
    add('--work-dir', help='where features, classifier and numbers go')
    add('--amp', action='store_true', help='features in mixed precision')
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override the config, such as test_dataloader.batch_size=8',
    )
    add(
        '--launcher',
        choices=['none', 'pytorch'],
        default='none',
        help='how the processes were started',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config_with(
            ('train_dataloader', 'test_dataloader'),
            args.config,
            args.cfg_options,
            args.work_dir,
        )
        # A second run overwrites: it goes on with the features of the first.
        check_out(Path(cfg.work_dir) / OUT, force=True)
        cfg.launcher = args.launcher
        start_processes(cfg)
        complete_dataloaders(cfg, pin_memory=torch.cuda.is_available())
        found = probe(
            cfg,
            args.checkpoint,
            Path(cfg.work_dir) / 'features',
            amp=args.amp,
            report=print_trial,
        )
        if found is not None:
            write(*found, Path(cfg.work_dir))
    except (CheckpointError, ImportError, OSError, ValueError) as error:
        sys.exit(f'error: {error}')


def start_processes(cfg: Config) -> None:
    """Join the process group, if there is one, of this machine.

    Raises:
        SystemExit: If there are several machines: they would write to files
            of which each has its own view.
    """
    if cfg.launcher == 'none':
        return
    if os.environ.get('LOCAL_WORLD_SIZE') != os.environ.get('WORLD_SIZE'):
        sys.exit('error: use the processes of one machine alone.')
    # As mmengine's runner does; its init_dist would start each data worker
    # as a new interpreter.
    workers = (cfg.get('env_cfg') or {}).get('mp_cfg') or {}
    set_multi_processing(**workers, distributed=True)
    use_gloo_without_gpu(cfg)
    if not torch.distributed.is_initialized():
        init_dist('pytorch', backend='nccl')


def print_trial(trial: Trial) -> None:
    note = '' if trial.converged else ' (1,000 iterations were not enough)'
    print(
        f'C={trial.c:.3g}: validation top-1 {trial.accuracy:.2f} %, loss '
        f'{trial.loss:.4f}{note}'
    )


def write(result: ProbeResult, checkpoint: dict, work_dir: Path) -> None:
    out = work_dir / OUT
    write_checkpoint(checkpoint, out)
    numbers = json.dumps(asdict(result), indent=2) + '\n'
    with atomic_file(out.with_suffix('.json')) as path:
        path.write_text(numbers, encoding='utf-8')
    print(f'C={result.c:.3g}, chosen on {result.validation}')
    for note in result.notes:
        print(f'note: {note}')
    print(f'linear probe: top-1 {result.linear_top1:.2f} %')
    print(f'nearest neighbours: top-1 {result.knn_top1:.2f} %')
    print(f'wrote {out}')


if __name__ == '__main__':
    main()
