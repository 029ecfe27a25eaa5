"""Show what a file of CLIP weights contains, and whether it would load."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmclip.commands._command_line import Parser, command
from mmclip.errors import ConfigError, some

if TYPE_CHECKING:
    from mmclip.checkpoint.towers.inspect import Findings

EXAMPLES = """\
  %(prog)s ViT-L-14-336.pt
  # would it load into the backbone of a config?
  %(prog)s ViT-L-14-336px.pth --config configs/clip/clip-l-336.py
  # does it give the outputs of open_clip's (or timm's) model?
  %(prog)s ViT-L-14-336px.pth --verify ViT-L-14-336 openai
  # ... or of a local open_clip file with the activation of that tag?
  %(prog)s X.pth --verify ViT-L-14-336 ViT-L-14-336.pt --tag openai

The exit code is 1 if the file does not fit the config or its outputs differ.
"""
# For float32 towers: sums in another order round differently.
TOLERANCE = 2e-5


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add(
        'file',
        type=Path,
        help='weights from open_clip, OpenAI, timm, Hugging Face (a file or '
        'a folder), mmpretrain or mmclip',
    )
    add('--config', help='a config whose backbone the weights should fit')
    add(
        '--verify',
        nargs=2,
        metavar=('NAME', 'TAG'),
        help="compare outputs with open_clip's or timm's model on random "
        'images; TAG may also be a file of its weights',
    )
    add(
        '--tag',
        help='for a file in --verify: the pretrained tag whose activation it '
        "uses, or 'none' to use the model config's",
    )
    args = parser.parse(argv)
    if args.tag and not args.verify:
        parser.error('--tag is for a file in --verify')
    return args


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.checkpoint.towers.inspect import inspect_weights
    from mmclip.checkpoint.towers.sources import find_source

    model = read_model(args.config) if args.config else None
    if args.verify:
        name, pretrained = args.verify
        find_source(name, pretrained, args.tag)  # refuses wrong names
    print(f'reading {args.file} ...', file=sys.stderr)
    fits = same = True
    found = inspect_weights(args.file)
    print_findings(found)
    if model:
        fits = print_fit(found, args.file, args.config, model)
    if args.verify:
        same = print_comparison(args.file, name, pretrained, args.tag)
    return 0 if fits and same else 1


def print_findings(found: 'Findings') -> None:
    print(f'format: {found.weights.kind}')
    print(f'names: {found.dialect or "not of a plain vision transformer"}')
    print(f'tensors: {_counts(found.dtypes)}')
    if found.parts:
        print(f'parts: {_counts(found.parts)}')
    if found.problem:
        print(f'cannot be converted: {found.problem}')
    for key, value in found.shapes.items():
        print(f'  {key}: {value}')
    if found.meta:
        print('described in the file or folder:')
        for key, value in facts(found.meta):
            print(f'  {key}: {value}')
    print(f'open_clip models with such a tower: {_list(found.names)}')
    if found.meta and 'act' in found.meta['backbone']:
        print(f'activation: {found.meta["backbone"]["act"]}')
    elif found.activations:
        print('activation: not in the file; it depends on the source:')
        for act, pairs in found.activations.items():
            print(f'  {act}:')
            for pair in pairs:
                print(f'    {pair}')
    elif found.names:
        print('activation: not in the file; open_clip has no tags of these')


def facts(meta: dict[str, Any], parents: str = '') -> Iterator[tuple]:
    """Yield the values of nested dicts by dotted key, lists cut short."""
    for key, value in meta.items():
        if isinstance(value, dict) and value:
            yield from facts(value, f'{parents}{key}.')
        elif isinstance(value, list) and len(value) > 5:
            yield f'{parents}{key}', f'{len(value)}: {some(value)}'
        else:
            yield f'{parents}{key}', value


def read_model(config: str) -> dict[str, Any]:
    """Read the model of a config.

    Raises:
        ConfigError: If it has no backbone.
    """
    from mmclip.engine.config.load import load_config

    model = load_config(config).to_dict().get('model') or {}
    if 'backbone' not in model:
        raise ConfigError(f'{config} does not define model.backbone.')
    return model


def print_fit(
    found: 'Findings', file: Path, config: str, model: dict[str, Any]
) -> bool:
    from mmclip.checkpoint.meta import UNSAID
    from mmclip.checkpoint.towers.inspect import why_not

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
    from mmclip.analysis.parity import compare_with_library

    difference = compare_with_library(str(file), name, pretrained, tag)
    same = difference <= TOLERANCE
    print(
        f'{"same outputs as" if same else "outputs DIFFER from"} '
        f'{name} {pretrained}: '
        f'largest relative difference {difference:.1e} (bound {TOLERANCE:.0e})'
    )
    return same


def _counts(counts: dict[str, int]) -> str:
    return ', '.join(f'{number} {what}' for what, number in counts.items())


def _list(names: list[str]) -> str:
    return ', '.join(names) or 'none'
