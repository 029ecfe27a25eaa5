"""Convert the image tower of an open_clip model for OpenMMLab."""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

from mmclip.checkpoint import (
    CheckpointError,
    convert_open_clip,
    write_checkpoint,
)
from mmclip.checkpoint.files import sha256
from mmclip.models.clip_vit import ARCH_KEYS, ARCHS

EXAMPLES = """examples:
  # weights of a pretrained tag, downloaded by open_clip
  %(prog)s ViT-L-14-336 openai ViT-L-14-336px.pth
  # a local file; --tag says whose activation and preprocessing it follows
  %(prog)s ViT-L-14-336 ViT-L-14-336.safetensors OUT.pth --tag openai
  # your own training run: its model config and its checkpoint
  %(prog)s model_config.json epoch_32.pt OUT.pth
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'name', help="open_clip's model name, or a JSON model config"
    )
    parser.add_argument(
        'pretrained',
        help='a pretrained tag of open_clip, or a local checkpoint (.pt, '
        '.pth, .bin, .safetensors)',
    )
    parser.add_argument('out', type=Path, help='the file to write')
    parser.add_argument(
        '--tag',
        help='for a local checkpoint: the pretrained tag whose activation '
        "and preprocessing it follows, or 'none' for the model config's own",
    )
    parser.add_argument(
        '--force', action='store_true', help='overwrite OUT if it exists'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.out.exists() and not args.force:
        sys.exit(f'error: {args.out} exists; pass --force to overwrite it.')
    try:
        checkpoint, conversion = convert_open_clip(
            args.name, args.pretrained, args.tag
        )
    except (CheckpointError, FileNotFoundError) as error:
        sys.exit(f'error: {error}')
    write_checkpoint(checkpoint, args.out)
    print_report(checkpoint, conversion, args.out)


def print_report(checkpoint: dict, conversion, out: Path) -> None:
    """Say what went where, and how to use the result."""
    meta = checkpoint['meta']['clip']
    arch, preprocess = meta['arch'], meta['preprocess']
    num_params = sum(t.numel() for t in conversion.state_dict.values())
    print(f'mapped: {len(conversion.mapped)} tensors of the image tower')
    for line, count in Counter(
        map(by_block, conversion.mapped.items())
    ).items():
        print(f'  {line} ({count})')
    print('left out on purpose:')
    for part, keys in conversion.left_out.items():
        print(f'  {part}: {len(keys)} tensors ({keys[0]} ... {keys[-1]})')
    print(f'activation: {arch["act"]}')
    print(f'preprocessing: {preprocess}')
    print(f'parameters: {num_params:,}')
    print(f'file: {out} ({out.stat().st_size:,} bytes)')
    print(f'sha256: {sha256(out)}')
    print(
        'use it as:\n'
        "  backbone=dict(type='mmclip.CLIPVisionTransformer',\n"
        f'      arch={preset_or_numbers(arch)},\n'
        f'      act={arch["act"]!r}, img_size={meta["img_size"]}, '
        f'patch_size={arch["patch_size"]},\n'
        "      init_cfg=dict(type='mmclip.PretrainedCLIP',\n"
        f'          checkpoint={str(out)!r}))'
    )


def by_block(names: tuple[str, str]) -> str:
    """A mapping with the block's number left open, for a short list."""
    theirs, ours = (
        re.sub(r'\.\d+\.', '.{i}.', name, count=1) for name in names
    )
    return f'{theirs} -> backbone.{ours}'


def preset_or_numbers(arch: dict) -> str:
    """What to write as the backbone's ``arch``."""
    numbers = {key: arch[key] for key in ARCH_KEYS}
    for name, preset in ARCHS.items():
        if tuple(numbers.values()) == preset:
            return repr(name)
    return f'dict({", ".join(f"{k}={v}" for k, v in numbers.items())})'


if __name__ == '__main__':
    main()
