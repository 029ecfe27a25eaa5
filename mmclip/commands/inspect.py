"""Say what a file of CLIP weights is, and what would not load."""

import argparse
import sys
from pathlib import Path

from mmclip.analysis.parity import compare_with_open_clip
from mmclip.checkpoint import CheckpointError
from mmclip.checkpoint.meta import UNSAID
from mmclip.checkpoint.towers.inspect import Findings, inspect_weights, why_not
from mmclip.engine.config.load import load_config

EXAMPLES = """examples:
  %(prog)s ViT-L-14-336.pt
  # would it load into the backbone of a config?
  %(prog)s ViT-L-14-336px.pth --config configs/clip/clip-l-336.py
  # does it give the outputs of open_clip's model?
  %(prog)s ViT-L-14-336px.pth --verify ViT-L-14-336 openai
  # ... from a local file of open_clip's, which follows that tag?
  %(prog)s X.pth --verify ViT-L-14-336 ViT-L-14-336.pt --tag openai
"""
# Of float32 towers: rounding in other orders of summation.
TOLERANCE = 2e-5


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'file',
        type=Path,
        help='of open_clip, OpenAI, timm, Hugging Face (also a folder), '
        'mmpretrain or mmclip',
    )
    parser.add_argument(
        '--config', help='a config: say what would not load into its backbone'
    )
    parser.add_argument(
        '--verify',
        nargs=2,
        metavar=('NAME', 'TAG'),
        help="compare outputs with open_clip's model on random images; "
        'instead of the tag, a file of its weights may stand',
    )
    parser.add_argument(
        '--tag',
        help='for a file in --verify: the pretrained tag whose activation it '
        "follows, or 'none' for the model config's own",
    )
    args = parser.parse_args()
    if args.tag and not args.verify:
        parser.error('--tag is for a file in --verify')
    return args


def main() -> None:
    args = parse_args()
    print(f'comparing {args.file} with what is known ...', file=sys.stderr)
    fits = same = True
    try:
        found = inspect_weights(args.file)
        print_findings(found)
        if args.config:
            fits = print_fit(found, args.file, args.config)
        if args.verify:
            same = print_comparison(args.file, *args.verify, args.tag)
    except (CheckpointError, OSError) as error:
        sys.exit(f'error: {error}')
    sys.exit(0 if fits and same else 1)


def print_findings(found: Findings) -> None:
    print(f'format: {found.weights.kind}')
    print(f'names: {found.dialect or "of no plain vision transformer"}')
    print(f'tensors: {_counts(found.dtypes)}')
    if found.parts:
        print(f'parts: {_counts(found.parts)}')
    if found.problem:
        print(f'cannot be converted: {found.problem}')
    for key, value in found.shapes.items():
        print(f'  {key}: {value}')
    if found.meta:
        print(f'described in the file: {found.meta}')
    print(f'models of open_clip with such a tower: {_list(found.names)}')
    if found.meta and 'act' in found.meta['backbone']:
        print(f'activation: {found.meta["backbone"]["act"]}')
    elif found.activations:
        print('activation: not in the file; by where it comes from:')
        for act, pairs in found.activations.items():
            print(f'  {act}: {_list(pairs)}')


def print_fit(found: Findings, file: Path, config: str) -> bool:
    try:
        model = load_config(config).to_dict().get('model') or {}
    except KeyError as error:
        raise CheckpointError(error.args[0]) from error
    if 'backbone' not in model:
        raise CheckpointError(f'{config} has no model with a backbone.')
    problem = why_not(found, file, model['backbone'])
    if problem is None:
        print(f'fits the backbone of {config}')
        if not found.meta:
            print(f'  (it {UNSAID})')
    else:
        print(f'does not fit the backbone of {config}: {problem}')
    return problem is None


def print_comparison(
    file: Path, name: str, pretrained: str, tag: str | None
) -> bool:
    difference = compare_with_open_clip(str(file), name, pretrained, tag)
    same = difference <= TOLERANCE
    print(
        f'{"same" if same else "OTHER"} outputs as {name} {pretrained}: '
        f'largest relative difference {difference:.1e} (bound {TOLERANCE:.0e})'
    )
    return same


def _counts(counts: dict[str, int]) -> str:
    return ', '.join(f'{number} {what}' for what, number in counts.items())


def _list(names: list[str]) -> str:
    return ', '.join(names) or 'none'


if __name__ == '__main__':
    main()
