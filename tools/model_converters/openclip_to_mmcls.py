"""Convert the image tower of a CLIP model for OpenMMLab."""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

import open_clip

from mmclip.checkpoint import (
    CheckpointError,
    convert_source,
    write_checkpoint,
)
from mmclip.checkpoint.files import check_out, sha256
from mmclip.checkpoint.sources import DTYPES
from mmclip.models.base_vit import ARCHS

EXAMPLES = """examples:
  # weights of a pretrained tag, downloaded by open_clip
  %(prog)s ViT-L-14-336 openai ViT-L-14-336px.pth
  # a local file; --tag says whose activation and preprocessing it follows
  %(prog)s ViT-L-14-336 ViT-L-14-336.safetensors OUT.pth --tag openai
  # OpenAI's original archive
  %(prog)s ViT-L-14-336 ViT-L-14-336px.pt OUT.pth --tag openai
  # timm, with its classifier
  %(prog)s vit_large_patch14_clip_336 laion2b_ft_in12k_in1k OUT.pth
  # a folder of Hugging Face transformers, CLIP or SigLIP
  %(prog)s FOLDER/config.json FOLDER OUT.safetensors
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
        'name',
        help='a model name of open_clip or timm, or a JSON model config of '
        'open_clip or Hugging Face',
    )
    parser.add_argument(
        'pretrained',
        help='a pretrained tag of that name, or a local checkpoint (.pt, '
        '.pth, .bin, .safetensors) or folder',
    )
    parser.add_argument(
        'out', type=Path, help='the file to write (.pth or .safetensors)'
    )
    parser.add_argument(
        '--tag',
        help='for a local checkpoint: the pretrained tag whose activation '
        "and preprocessing it follows, or 'none' for the model config's own",
    )
    parser.add_argument(
        '--dtype',
        choices=DTYPES,
        default='float32',
        help='of the weights written; float32 if not given',
    )
    parser.add_argument(
        '--force', action='store_true', help='overwrite OUT if it exists'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        check_out(args.out, force=args.force)
        checkpoint, conversion = convert_source(
            args.name, args.pretrained, args.tag, args.dtype
        )
        write_checkpoint(checkpoint, args.out)
    except (CheckpointError, OSError) as error:
        sys.exit(f'error: {error}')
    print_report(checkpoint, conversion, args.out)


def print_report(checkpoint: dict, conversion, out: Path) -> None:
    """Say what went where, and how to use the result."""
    meta = checkpoint['meta']['clip']
    backbone = meta['backbone']
    num_params = sum(t.numel() for t in conversion.state_dict.values())
    print(f'names: {conversion.dialect.name}')
    print(f'mapped: {len(conversion.mapped)} tensors of the image tower')
    for line, count in Counter(
        map(by_block, conversion.mapped.items())
    ).items():
        print(f'  {line} ({count})')
    print('left out on purpose:')
    for part, keys in conversion.left_out.items():
        print(f'  {part}: {len(keys)} tensors ({keys[0]} ... {keys[-1]})')
    print(f'activation: {backbone.get("act", "as open_clip builds it")}')
    print(f'preprocessing: {meta["preprocess"] or "not known"}')
    print(f'parameters: {num_params:,}')
    print(f'file: {out} ({out.stat().st_size:,} bytes)')
    print(f'sha256: {sha256(out)}')
    print(f'use it as:\n{usage(with_names(backbone, meta["source"]), out)}')


def with_names(backbone: dict, source: dict) -> dict:
    """The config with open_clip's name for what the name means."""
    if 'model' in backbone and source['name'] in open_clip.list_models():
        return backbone | dict(model=source['name'])
    return backbone


def usage(backbone: dict, out: Path) -> str:
    """The lines of a config."""
    lines = [f'  backbone=dict(type={backbone["type"]!r},']
    for key, value in backbone.items():
        if key == 'arch':
            lines.append(f'      arch={preset_or_numbers(value)},')
        elif key != 'type' and value is not None:
            lines.append(f'      {key}={value!r},')
    return '\n'.join(
        [
            *lines,
            "      init_cfg=dict(type='mmclip.PretrainedCLIP',",
            f'          checkpoint={str(out)!r}))',
        ]
    )


def by_block(names: tuple[str, str]) -> str:
    """A mapping with the block's number left open, for a short list."""
    theirs, ours = (
        re.sub(r'\.\d+\.', '.{i}.', name, count=1) for name in names
    )
    return f'{theirs} -> {ours}'


def preset_or_numbers(arch: dict) -> str:
    """What to write as the backbone's ``arch``."""
    for name, preset in ARCHS.items():
        if tuple(arch.values()) == preset:
            return repr(name)
    return f'dict({", ".join(f"{k}={v}" for k, v in arch.items())})'


if __name__ == '__main__':
    main()
