"""Average several fine-tuned models (model soups)."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmclip.commands._command_line import (
    Parser,
    command,
    command_line,
    print_written,
)
from mmclip.markdown import markdown_table

if TYPE_CHECKING:
    from mmclip.averaging.average import Trial

EXAMPLES = """\
  %(prog)s RUN1.pth RUN2.pth RUN3.pth --out SOUP.pth
  %(prog)s RUN*.pth --method greedy --config CONFIG --out SOUP.pth
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add(
        'checkpoints',
        nargs='+',
        help='two or more checkpoints of one architecture',
    )
    add(
        '--method',
        choices=['uniform', 'greedy'],
        default='uniform',
        help='average all, or only those that improve the result on the '
        "config's validation set (default: %(default)s)",
    )
    add(
        '--config',
        help='the config of the models; required for greedy; with it, a '
        'uniform soup is validated too',
    )
    add('--out', type=Path, required=True, help='the file to write')
    parser.add_force()
    add('--metric', default='top1', help='the metric (default: %(default)s)')
    add(
        '--same-classes',
        action='store_true',
        help='accept checkpoints with different class names that mean the '
        'same classes in the same order',
    )
    add('--work-dir', help='folder for the log')
    parser.add_cfg_options('val_dataloader.batch_size=8')
    args = parser.parse(argv)
    if args.method == 'greedy' and not args.config:
        parser.error('--method greedy needs --config')
    files = {Path(path).resolve() for path in args.checkpoints}
    if len(files) < max(2, len(args.checkpoints)):
        parser.error('a soup needs two or more different checkpoints')
    return args


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.averaging.average import (
        average,
        averaged_checkpoint,
        check_compatible,
        greedy_soup,
        read_weights,
    )
    from mmclip.averaging.validation import Validation
    from mmclip.checkpoint import write_checkpoint
    from mmclip.checkpoint.files.paths import check_out
    from mmclip.evaluation.config import load_config_with

    check_out(args.out, *args.checkpoints, force=args.force)
    cfg = None
    if args.config:
        cfg = load_config_with(
            ('val_dataloader', 'val_evaluator'),
            args.config,
            args.cfg_options,
            args.work_dir,
        )
    checkpoints = {path: read_weights(path) for path in args.checkpoints}
    same_classes = args.same_classes
    for note in check_compatible(checkpoints, same_classes=same_classes):
        print(f'note: {note}')
    weights = {k: v['state_dict'] for k, v in checkpoints.items()}
    validate = None
    if cfg:
        note_selection(cfg)
        validate = Validation(cfg, checkpoints, args.metric)
    if validate and args.method == 'greedy':
        with validate:
            soup, trials = greedy_soup(weights, validate)
        print(f'\n{trials_to_markdown(trials)}')
        kept = [trial.name for trial in trials if trial.kept]
    else:
        soup, kept = average(list(weights.values())), args.checkpoints
        if validate:
            with validate:
                score = validate(soup)
            print(f'validation: {score:.1f}')
    shares = dict.fromkeys(kept, 1 / len(kept))
    write_checkpoint(averaged_checkpoint(soup, checkpoints, shares), args.out)
    what = f'the mean of {len(kept)} checkpoints'
    if len(kept) == 1:
        what = f'the weights of {kept[0]}: no other made them better'
    print_written(
        (args.out, what),
        then=command_line('test', args.config or 'CONFIG', args.out),
    )
    return 0


def note_selection(cfg: Any) -> None:
    """Print a note if models are chosen and tested on the same images."""
    test = cfg.get('test_dataloader')
    if test and test.dataset == cfg.val_dataloader.dataset:
        print(
            "note: the config's validation set is its test set; measure a "
            'soup chosen on it on other images.'
        )


def trials_to_markdown(trials: 'list[Trial]') -> str:
    rows = []
    for trial in trials:
        if trial.before is None:
            why = 'yes: the best alone'
        else:
            kept = 'yes' if trial.kept else 'no'
            why = f'{kept}: {trial.before:.1f} before'
        rows.append([trial.name, trial.alone, trial.together, why])
    header = ('checkpoint', 'alone', 'soup with it', 'kept')
    return markdown_table(header, rows, 'lrrl')
