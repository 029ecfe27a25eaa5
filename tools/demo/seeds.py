"""Run the demo with several seeds, and print the mean and spread of each row.

The seed applies to the split, the shift, pre-training and training. A seed
that is already there is not run again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from report import SPLITS, adapted, by_config

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.markdown import markdown_table

EXAMPLES = """examples:
  python %(prog)s --seeds 0 1 2
  python %(prog)s --ways        # also the seven ways by config
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        '--seeds',
        type=int,
        nargs='+',
        default=[0, 1, 2],
        help='at least two (default: 0 1 2)',
    )
    add(
        '--folder',
        type=Path,
        default=Path('work_dirs/demo_seeds'),
        help='for one folder per seed, and table.md (default: %(default)s)',
    )
    add('--ways', action='store_true', help='as in run.py')
    args = parser.parse_args()
    if len(set(args.seeds)) < 2:
        parser.error('at least two seeds are needed for a spread')
    tables = [
        table_of(seed, args.folder / str(seed), args.ways)
        for seed in args.seeds
    ]
    text = to_markdown(tables)
    with atomic_file(args.folder / 'table.md') as path:
        path.write_text(text, encoding='utf-8')
    print(f'\nTop-1 in percent, mean and spread of {len(tables)} seeds\n')
    print(text)


def table_of(seed: int, folder: Path, ways: bool) -> dict:
    """Return the table of one seed, running the demo if it is missing."""
    demo = folder / 'work_dirs' / 'demo'
    last = demo / 'table.json' if ways else RunFolder(demo / 'run').metrics
    if not last.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        tool = Path(__file__).with_name('run.py')
        command = [sys.executable, tool, f'--seed={seed}', '--folder', folder]
        code = subprocess.run(command + ['--ways'] * ways).returncode
        if code != 0:
            sys.exit(code)  # it has said why
    return adapted(demo) | (by_config(demo) if ways else {})


def to_markdown(tables: list[dict]) -> str:
    """Format mean and sample standard deviation over tables, in Markdown."""
    rows = []
    for label in tables[0]:
        cells = []
        for split in SPLITS:
            values = [table[label][split] for table in tables]
            cells.append(
                f'{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}'
            )
        rows.append([label, *cells])
    return markdown_table(['', *SPLITS.values()], rows)


if __name__ == '__main__':
    main()
