"""Convert the image encoder (tower) of a CLIP model for OpenMMLab."""

import argparse
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmclip.commands._command_line import (
    Parser,
    command,
    command_line,
    print_written,
)

EXAMPLES = """\
  # weights of a pretrained tag, downloaded by open_clip
  %(prog)s ViT-L-14-336 openai ViT-L-14-336px.pth
  # a local file; its activation and preprocessing are those of --tag
  %(prog)s ViT-L-14-336 ViT-L-14-336.safetensors OUT.pth --tag openai
  # OpenAI's original archive
  %(prog)s ViT-L-14-336 ViT-L-14-336px.pt OUT.pth --tag openai
  # timm, with its classifier
  %(prog)s vit_large_patch14_clip_336 laion2b_ft_in12k_in1k OUT.pth
  # a vision transformer that only timm can build: a dense one, a classifier
  %(prog)s vit_pe_spatial_base_patch16_512 fb OUT.pth
  %(prog)s eva_large_patch14_336 in22k_ft_in22k_in1k OUT.pth
  # a folder from Hugging Face transformers, CLIP or SigLIP
  %(prog)s FOLDER/config.json FOLDER OUT.safetensors
  # your own training run: its model config and its checkpoint
  %(prog)s model_config.json epoch_32.pt OUT.pth
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__name__, __doc__, EXAMPLES)
    add = parser.add_argument
    add(
        'name',
        help='a model name from open_clip or timm, or a JSON model config '
        'from open_clip or Hugging Face',
    )
    add(
        'pretrained',
        help='a pretrained tag of that model, or a local checkpoint (.pt, '
        '.pth, .bin, .safetensors) or folder',
    )
    add('out', type=Path, help='the file to write (.pth or .safetensors)')
    add(
        '--tag',
        help='for a local checkpoint: the pretrained tag whose activation '
        "and preprocessing it uses, or 'none' to use the model config's",
    )
    add(
        '--dtype',
        choices=['float32', 'float16', 'bfloat16'],
        default='float32',
        help='data type of the weights in OUT (default: %(default)s)',
    )
    parser.add_force()
    return parser.parse(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmclip.checkpoint.files.paths import check_out
    from mmclip.checkpoint.files.writing import write_checkpoint
    from mmclip.checkpoint.towers.sources import convert_source

    check_out(args.out, args.name, args.pretrained, force=args.force)
    checkpoint, conversion = convert_source(
        args.name, args.pretrained, args.tag, args.dtype
    )
    digest = hashlib.sha256()
    write_checkpoint(checkpoint, args.out, digest)
    print_report(
        checkpoint['meta']['clip'], conversion, args.out, digest.hexdigest()
    )
    return 0


def print_report(
    clip: dict[str, Any], conversion: Any, out: Path, sha256: str
) -> None:
    """Print which tensor became which, and how to use the result."""
    from mmclip.checkpoint.towers.tower import TIMM_TOWER
    from mmclip.checkpoint.towers.usage import config_lines, images, other_uses

    num_params = sum(t.numel() for t in conversion.state_dict.values())
    print(f'names: {conversion.dialect.name}')
    print(f'mapped: {len(conversion.mapped)} tensors of the image tower')
    for line, count in Counter(
        map(by_block, conversion.mapped.items())
    ).items():
        print(f'  {line} ({count})')
    if conversion.left_out:
        print('left out, as not part of the image tower:')
    for part, keys in conversion.left_out.items():
        print(f'  {part}: {len(keys)} tensors ({keys[0]} ... {keys[-1]})')
    backbone = clip['backbone']
    library = 'timm' if backbone['type'] == TIMM_TOWER else 'open_clip'
    act = backbone.get('act', f'as {library} builds it')
    print(f'activation: {act}')
    print(f'images: {images(clip)}')
    print(f'parameters: {num_params:,}')
    print(f'sha256: {sha256}')
    print(f'use it in the model of a config as:\n{config_lines(clip, out)}')
    print(f'or for\n{other_uses(clip)}')
    what = 'a classifier' if clip.get('head') else 'an image tower'
    print_written(
        (out, f'{what}, {out.stat().st_size:,} bytes'),
        then=command_line('train', 'CONFIG'),
    )


def by_block(names: tuple[str, str]) -> str:
    """Return a mapping with ``{i}`` for the block number, to group blocks."""
    theirs, ours = (
        re.sub(r'\.\d+\.', '.{i}.', name, count=1) for name in names
    )
    return f'{theirs} -> {ours}'
