"""Average several fine-tuned models (model soups)."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from torch import Tensor
from tqdm import tqdm

from mmclip.averaging.average import (
    Trial,
    average,
    averaged_checkpoint,
    check_compatible,
    greedy_soup,
    read_weights,
)
from mmclip.averaging.weight_space import WeightTester
from mmclip.checkpoint import CheckpointError, write_checkpoint
from mmclip.checkpoint.files.paths import check_folder, check_out
from mmclip.evaluation import build_test_runner, tell_classes
from mmclip.evaluation.config import load_config_with

EXAMPLES = """examples:
  %(prog)s RUN1.pth RUN2.pth RUN3.pth --out SOUP.pth
  %(prog)s RUN*.pth --method greedy --config CONFIG --out SOUP.pth
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('checkpoints', nargs='+', help='two or more of one architecture')
    add(
        '--method',
        choices=['uniform', 'greedy'],
        default='uniform',
        help='the mean of all, or of those that make it better on the '
        "config's validation set (default: %(default)s)",
    )
    add(
        '--config',
        help="for greedy: the models' config. With it, a uniform soup is "
        'validated too',
    )
    add('--out', type=Path, required=True, help='the file to write')
    add('--force', action='store_true', help='overwrite OUT if it exists')
    add('--metric', default='top1', help='what counts (default: %(default)s)')
    add(
        '--same-classes',
        action='store_true',
        help='the class names in the checkpoints differ, but mean the same '
        'classes in the same order',
    )
    add('--work-dir', help='where the log goes')
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override the config, such as val_dataloader.batch_size=8',
    )
    args = parser.parse_args()
    if args.method == 'greedy' and not args.config:
        parser.error('--method greedy needs --config')
    files = {Path(path).resolve() for path in args.checkpoints}
    if len(files) < max(2, len(args.checkpoints)):
        parser.error('a soup needs two or more different checkpoints')
    return args


def main() -> None:
    args = parse_args()
    try:
        check_out(args.out, force=args.force)
        run(args)
    except (CheckpointError, OSError, ValueError) as error:
        sys.exit(f'error: {error}')


def run(args: argparse.Namespace) -> None:
    checkpoints = {path: read_weights(path) for path in args.checkpoints}
    same_classes = args.same_classes
    for note in check_compatible(checkpoints, same_classes=same_classes):
        print(f'note: {note}')
    weights = {k: v['state_dict'] for k, v in checkpoints.items()}
    validate = Validation(args, checkpoints) if args.config else None
    if args.method == 'greedy':
        soup, trials = greedy_soup(weights, validate)
        print_trials(trials)
        kept = [trial.name for trial in trials if trial.kept]
    else:
        soup, kept = average(list(weights.values())), args.checkpoints
        if validate:
            print(f'validation: {validate(soup):.2f}')
    shares = dict.fromkeys(kept, 1 / len(kept))
    write_checkpoint(averaged_checkpoint(soup, checkpoints, shares), args.out)
    print(f'wrote: {args.out} (the mean of {len(kept)})')


class Validation:
    """The score of weights on the validation set of a config."""

    def __init__(self, args: argparse.Namespace, checkpoints: dict[str, Any]):
        cfg = load_config_with(
            ('val_dataloader', 'val_evaluator'),
            args.config,
            args.cfg_options,
            args.work_dir,
        )
        check_folder(Path(cfg.work_dir))
        cfg.log_level = 'WARNING'  # the table says it all
        note_selection(cfg)
        runner = build_test_runner(cfg)
        for path, checkpoint in reversed(checkpoints.items()):
            tell_classes(runner, checkpoint, path)
        data = (runner.cfg.val_dataloader, runner.cfg.val_evaluator)
        self._test = WeightTester(runner, dict(val=data), args.metric)
        self._progress = tqdm(unit='validation')

    def __call__(self, state_dict: Mapping[str, Tensor]) -> float:
        """Test weights, and show that it was done."""
        score = self._test(state_dict)['val']
        self._progress.update()
        return score


def note_selection(cfg: Config) -> None:
    """Say if what is chosen on is what will be tested on."""
    test = cfg.get('test_dataloader')
    if test and test.dataset == cfg.val_dataloader.dataset:
        print(
            "note: the config's validation set is its test set; a soup that "
            'was chosen there needs other images to be measured on.'
        )


def print_trials(trials: list[Trial]) -> None:
    print('\n| checkpoint | alone | soup with it | kept |')
    print('| :-- | --: | --: | :-- |')
    for trial in trials:
        if trial.before is None:
            why = 'yes: the best alone'
        elif trial.kept:
            why = f'yes: {trial.before:.2f} before'
        else:
            why = f'no: {trial.before:.2f} before'
        print(
            f'| {trial.name} | {trial.alone:.2f} | {trial.together:.2f} | '
            f'{why} |'
        )
    print()


if __name__ == '__main__':
    main()
