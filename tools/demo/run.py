"""Run the demo: train a tiny CLIP, and make a classifier of handwriting.

Each step is an ordinary command, printed before it runs; the results are in
FOLDER/work_dirs/demo.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from digits import DIGIT_NAMES

EXAMPLES = """examples:
  python %(prog)s
  python %(prog)s --ways --seed 1 --folder work_dirs/demo_seeds/1
  python %(prog)s --dry-run     # only print the commands
"""
ROOT = Path(__file__).parents[2]
DEMO = 'work_dirs/demo'
OPEN_CLIP = f'{DEMO}/open_clip'
RUN = f'{DEMO}/run'
TEMPLATES = (
    'the digit {}',
    'a handwritten digit {}',
    'a scan of the number {}',
)
SPLITS = ('val', 'val_shifted')
# The config and checkpoint to test for each row of the table.
ROWS = {
    'zero_shot': ('_zeroshot', 'zero_shot.pth'),
    'linear_probe': ('', 'linear_probe/linear_probe.pth'),
    'from_scratch': ('', 'from_scratch/iter_{iters}.pth'),
    'fine_tuned': ('', 'fine_tuned/iter_{iters}.pth'),
    'from_zero_shot': ('_zeroshot', 'from_zero_shot/iter_{iters}.pth'),
    'wise_ft': ('_zeroshot', 'wise_ft.pth'),
    'flyp': ('_zeroshot', 'flyp.pth'),
}
QUICK = [
    'train_cfg.val_interval=2',
    'default_hooks.checkpoint.interval=2',
    'default_hooks.logger.interval=1',
]

Command = list[str]
Step = tuple[str, list[Command]]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--seed', type=int, default=0, help='seed of all (default: 0)')
    add(
        '--folder',
        type=Path,
        default=Path(),
        help='where data/ and work_dirs/ go (default: here)',
    )
    add(
        '--ways',
        action='store_true',
        help='also train and test by config, in seven ways',
    )
    add('--dry-run', action='store_true', help='only print the commands')
    add(
        '--quick',
        action='store_true',
        help='run a few steps of each command, to see whether they work',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not args.dry_run:
        write_texts(args.folder / DEMO)
    todo = adapting(args.seed, args.quick)
    if args.ways:
        todo += ways(args.seed, args.quick)
    for i, (title, commands) in enumerate(todo, start=1):
        note = f'  # {i}/{len(todo)} {title}'
        for command in commands:
            print(f'$ {shlex.join(command)}{note}', flush=True)
            note = ''
            if not args.dry_run:
                run(command, args.folder)
    if not args.dry_run:
        print(f'the page: {args.folder / RUN / "report.html"}')


def write_texts(folder: Path) -> None:
    """Write the names of the digits and the templates, for zero-shot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'names.txt').write_text('\n'.join(DIGIT_NAMES) + '\n')
    (folder / 'templates.txt').write_text('\n'.join(TEMPLATES) + '\n')


def run(command: Command, folder: Path) -> None:
    """Run a command in a folder, with this checkout's tools and configs."""
    program, *arguments = command
    here = [
        str(ROOT / argument)
        if argument.startswith(('tools/', 'configs/'))
        else argument
        for argument in arguments
    ]
    environment = os.environ | dict(PYTHONUNBUFFERED='1')
    python = [sys.executable] + ['-m', 'mmclip'] * (program == 'mmclip')
    result = subprocess.run(
        [*python, *here],
        cwd=folder,
        env=environment,
    )
    if (code := result.returncode) != 0:
        print(f'error: exit code {code}: {command}', file=sys.stderr)
        sys.exit(code if code > 0 else 128 - code)  # as a shell


def adapting(seed: int, quick: bool) -> list[Step]:
    """Return the demo: data, a tiny CLIP, and what ``mmclip adapt`` makes."""
    pretrain = ['python', 'tools/demo/pretrain.py', f'--seed={seed}']
    few = ['--steps=3', '--batch-size=16'] if quick else []
    return [
        (
            'data: real handwriting, 3 training images per class',
            [['python', 'tools/demo/prepare_data.py', f'--seed={seed}']],
        ),
        ('pre-train a tiny CLIP on glyphs and captions', [pretrain + few]),
        ('make a classifier of the handwriting', [_adapt(seed, quick)]),
    ]


def ways(seed: int, quick: bool) -> list[Step]:
    """Return seven ways by config, each with its own commands."""
    return [
        (
            'convert the image tower; make its zero-shot classifier',
            [
                _convert(),
                _zero_shot_head(),
            ],
        ),
        ('probe the frozen tower', [_linear_probe()]),
        (
            'train: from CLIP, from scratch, from zero-shot, by FLYP',
            [
                _train(name, seed, quick)
                for name in ('', '_scratch', '_wise-ft')
            ]
            + [_train('_flyp', seed, quick), _flyp_to_classifier(quick)],
        ),
        (
            'average the weights before and after; test everything',
            [
                _interpolate(quick),
                *(_test(r, split, quick) for r in ROWS for split in SPLITS),
            ],
        ),
        ('report', [['python', 'tools/demo/report.py']]),
    ]


def _adapt(seed: int, quick: bool) -> Command:
    return [
        'mmclip',
        'adapt',
        'data/demo_digits',
        f'--model={OPEN_CLIP}',
        f'--names={DEMO}/names.txt',
        f'--templates={DEMO}/templates.txt',
        f'--out={RUN}',
        '--also-test',
        'data/demo_digits/val_shifted',
        f'--seed={seed}',
        f'--recipe={"light" if quick else "auto"}',
        '--force',
    ]


def _convert() -> Command:
    return [
        'python',
        'tools/model_converters/openclip_to_mmcls.py',
        f'{OPEN_CLIP}/open_clip_config.json',
        f'{OPEN_CLIP}/open_clip_pytorch_model.bin',
        f'{DEMO}/clip.pth',
        '--force',
    ]


def _zero_shot_head() -> Command:
    return [
        'python',
        'tools/zero_shot_head.py',
        f'{OPEN_CLIP}/open_clip_config.json',
        f'{OPEN_CLIP}/open_clip_pytorch_model.bin',
        f'{DEMO}/zero_shot.pth',
        f'--classes={DEMO}/names.txt',
        f'--templates={DEMO}/templates.txt',
        '--force',
    ]


def _linear_probe() -> Command:
    return [
        'python',
        'tools/linear_probe.py',
        'configs/clip/clip-demo-digits.py',
        f'{DEMO}/clip.pth',
        f'--work-dir={DEMO}/linear_probe',
        '--force',
    ]


def _train(name: str, seed: int, quick: bool) -> Command:
    config = f'configs/clip/clip-demo-digits{name}.py'
    options = [f'randomness.seed={seed}']
    if quick:
        options += [f'train_cfg.max_iters={_iters(quick)}', *QUICK]
    return ['python', 'tools/train.py', config, '--cfg-options', *options]


def _flyp_to_classifier(quick: bool) -> Command:
    return [
        'python',
        'tools/model_converters/flyp_to_classifier.py',
        'configs/clip/clip-demo-digits_flyp.py',
        f'{DEMO}/flyp/iter_{_iters(quick)}.pth',
        f'{DEMO}/flyp.pth',
        '--force',
    ]


def _interpolate(quick: bool) -> Command:
    return [
        'python',
        'tools/interpolate.py',
        f'{DEMO}/zero_shot.pth',
        f'{DEMO}/from_zero_shot/iter_{_iters(quick)}.pth',
        '--config',
        'configs/clip/clip-demo-digits_zeroshot.py',
        '--eval',
        'shifted',
        'dataset.data_prefix=val_shifted',
        '--same-classes',  # the folders are called 0 to 9
        f'--work-dir={DEMO}/interpolation',
        f'--out={DEMO}/wise_ft.pth',
        '--force',
    ]


def _test(row: str, split: str, quick: bool) -> Command:
    config, checkpoint = ROWS[row]
    return [
        'python',
        'tools/test.py',
        f'configs/clip/clip-demo-digits{config}.py',
        f'{DEMO}/{checkpoint.format(iters=_iters(quick))}',
        f'--work-dir={DEMO}/test',
        f'--out={DEMO}/{row}_{split}.pkl',
        '--force',
        '--cfg-options',
        f'test_dataloader.dataset.data_prefix={split}',
    ]


def _iters(quick: bool) -> int:
    return 2 if quick else 200  # of configs/clip/clip-demo-digits.py


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:  # the command has got it, too
        sys.exit(130)
