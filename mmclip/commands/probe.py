"""Probe an image encoder (tower) with logistic regression and kNN.

Follows the CLIP paper (arXiv 2103.00020, appendix A.3). Computes the features
once and keeps them in WORK_DIR/features. Writes WORK_DIR/linear_probe.pth, a
classifier to test like any other, and WORK_DIR/linear_probe.json.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmclip.commands._command_line import (
    Parser,
    check_files,
    command,
    command_line,
    print_written,
)

if TYPE_CHECKING:
    from mmclip.probing import ProbeResult
    from mmclip.probing.sweep import Trial

EXAMPLES = """\
  %(prog)s configs/clip/clip-l-336_linear-probe_in1k.py \\
      open_clip://ViT-L-14-336/openai
  # on 8 GPUs of one machine, in mixed precision
  mmclip launch --nproc_per_node 8 probe CONFIG CHECKPOINT --amp

CHECKPOINT may be a file, or
  open_clip://NAME/TAG    weights that open_clip downloads
  timm://NAME.TAG         weights that timm downloads
  hf-hub:ORG/REPOSITORY   a repository for open_clip or transformers
  local-dir:FOLDER        its files in a folder
"""
OUT = 'linear_probe.pth'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add('config', help='the config of a classifier with a linear head')
    add(
        'checkpoint',
        help='a tower or a classifier: a file, or one of the forms below',
    )
    add('--work-dir', help='folder for features, classifier and numbers')
    parser.add_force(
        'the classifier and numbers of an earlier run; its features are '
        'used again'
    )
    add(
        '--amp',
        action='store_true',
        help='compute features in mixed precision',
    )
    parser.add_cfg_options('test_dataloader.batch_size=8')
    parser.add_launcher('pytorch')
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    check_files(args)
    import torch
    from mmengine.logging import MMLogger

    from mmclip.checkpoint.files.paths import check_out
    from mmclip.engine.config.load import complete_dataloaders
    from mmclip.evaluation.config import load_config_with
    from mmclip.probing import probe
    from mmclip.probing.processes import start_processes

    cfg = load_config_with(
        ('train_dataloader', 'test_dataloader'),
        args.config,
        args.cfg_options,
        args.work_dir,
    )
    work_dir = Path(cfg.work_dir)
    checkpoint = args.checkpoint.removeprefix('local-dir:')
    check_out(work_dir / OUT, checkpoint, force=args.force)
    cfg.launcher = args.launcher
    start_processes(cfg)
    MMLogger.get_instance('mmclip', log_level=cfg.get('log_level', 'INFO'))
    complete_dataloaders(cfg, pin_memory=torch.cuda.is_available())
    found = probe(
        cfg,
        args.checkpoint,
        work_dir / 'features',
        amp=args.amp,
        report=print_trial,
    )
    if found is not None:
        write(*found, work_dir / OUT)
        print_written(
            (work_dir / OUT, 'the linear probe, a classifier'),
            (_numbers(work_dir / OUT), 'all numbers'),
            then=command_line('test', args.config, work_dir / OUT),
        )
    return 0


def print_trial(trial: 'Trial') -> None:
    note = '' if trial.converged else ' (1,000 iterations were not enough)'
    print(
        f'C={trial.c:.3g}: validation top-1 {trial.accuracy:.1f} %, loss '
        f'{trial.loss:.3f}{note}'
    )


def write(
    result: 'ProbeResult', checkpoint: dict[str, Any], out: Path
) -> None:
    """Write the classifier, and write and print the numbers."""
    from mmclip.checkpoint import write_checkpoint
    from mmclip.checkpoint.files.atomic import atomic_file

    write_checkpoint(checkpoint, out)
    numbers = json.dumps(asdict(result), indent=2) + '\n'
    with atomic_file(_numbers(out)) as path:
        path.write_text(numbers, encoding='utf-8')
    print(f'C={result.c:.3g}, chosen on {result.validation}')
    for note in result.notes:
        print(f'note: {note}')
    print(f'linear probe: top-1 {result.linear_top1:.1f} %')
    print(f'nearest neighbours: top-1 {result.knn_top1:.1f} %')


def _numbers(out: Path) -> Path:
    return out.with_suffix('.json')
