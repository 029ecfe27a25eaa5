"""Write the table of open_clip's image towers and their rows in the metafile.

Compares every tower with open_clip's own, with random weights and two blocks
(whole towers where they are no vision transformers), and writes the largest
relative difference of each family to docs/zoo.md. Counts the parameters and
multiply-accumulates of every pair of a name and a tag, and writes them to
configs/clip/metafile_zoo.yml. Takes about ten minutes.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import open_clip
import torch
import yaml
from mmengine.config import Config
from mmengine.utils import to_2tuple
from tqdm import tqdm

from mmclip.analysis.complexity import count_complexity
from mmclip.analysis.parity import make_twins, relative_difference
from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.checkpoint.towers.tower import CLIP, OTHER, Tower
from mmclip.zoo import SCHEME, zoo_name

ROOT = Path(__file__).parents[2]
METAFILE = ROOT / 'configs' / 'clip' / 'metafile_zoo.yml'
TABLE = ROOT / 'docs' / 'zoo.md'
BEGIN, END = '<!-- table: begin -->\n', '<!-- table: end -->\n'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='example: python %(prog)s --only metafile',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--only', choices=('metafile', 'table'), help='write only this'
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; fail if the metafile is out of date',
    )
    args = parser.parse_args()
    if args.check:
        if METAFILE.read_text(encoding='utf-8') != metafile():
            sys.exit(
                'configs/clip/metafile_zoo.yml is out of date; run zoo.py'
            )
        return
    if args.only != 'table':
        METAFILE.write_text(metafile(), encoding='utf-8')
        print(f'wrote {METAFILE.relative_to(ROOT)}')
    if args.only != 'metafile':
        before, rest = TABLE.read_text(encoding='utf-8').split(BEGIN)
        text = before + BEGIN + table() + END + rest.split(END)[1]
        TABLE.write_text(text, encoding='utf-8')
        print(f'wrote {TABLE.relative_to(ROOT)}')


def metafile() -> str:
    """A row per pair of a name and a pretrained tag."""
    rows = []
    for name in progress(open_clip.list_models()):
        tags = open_clip.list_pretrained_tags_by_model(name)
        complexity = count(find_tower(name, None)) if tags else None
        for tag in tags:
            rows.append(
                {
                    'Name': zoo_name(name, tag),
                    'In Collection': 'CLIP image towers',
                    'Metadata': {
                        'FLOPs': complexity.macs,
                        'Parameters': complexity.params,
                    },
                    'Weights': f'{SCHEME}{name}/{tag}',
                }
            )
    header = '# python tools/analysis_tools/zoo.py --only metafile\n'
    return header + yaml.safe_dump({'Models': rows}, sort_keys=False)


def count(tower: Tower):
    """Of one image, with the projection."""
    model = dict(type='ImageClassifier', backbone=tower.backbone)
    cfg = Config(dict(default_scope='mmpretrain', model=model))
    return count_complexity(cfg, to_2tuple(tower.img_size))


def table() -> str:
    """Names, pairs and the largest difference of each family, in Markdown."""
    names, pairs = defaultdict(list), defaultdict(int)
    largest: dict[tuple[str, str], float] = defaultdict(float)
    for name in progress(open_clip.list_models()):
        tower = find_tower(name, None)
        key = (family(name, tower), tower.backbone['type'].split('.')[1])
        names[key].append(name)
        pairs[key] += len(open_clip.list_pretrained_tags_by_model(name))
        largest[key] = max(largest[key], difference(name, tower))
    lines = [
        '| Family | Backbone | Names | Pairs | Largest relative difference |',
        '| :-- | :-- | --: | --: | --: |',
    ]
    for key in sorted(names, key=lambda key: (key[1], key[0])):
        lines.append(
            f'| {key[0]} | `{key[1]}` | {len(names[key])} | {pairs[key]} '
            f'| {largest[key]:.1e} |'
        )
    lines.append(
        f'| all | | {sum(map(len, names.values()))} | {sum(pairs.values())} '
        f'| {max(largest.values()):.1e} |'
    )
    return '\n'.join(lines) + '\n'


def difference(name: str, tower: Tower) -> float:
    """Of one random image's feature."""
    reference, backbone = make_twins(name, depth=2)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 3, *to_2tuple(tower.img_size), generator=generator)
    with torch.no_grad():
        return relative_difference(backbone(x)[-1], reference(x))


def family(name: str, tower: Tower) -> str:
    """What to call a tower's kind."""
    backbone = tower.backbone
    if backbone['type'] == CLIP:
        pools = {'cls_token': 'CLIP', 'avg': 'CLIPA', 'attention': 'CoCa'}
        return pools[backbone['pool']]
    if backbone['type'] != OTHER:
        return f'SigLIP, {backbone["act"]}'
    trunk = backbone['model']['vision_cfg'].get('timm_model_name')
    return 'ModifiedResNet' if trunk is None else f'timm {trunk.split("_")[0]}'


def progress(names: Iterable[str]) -> tqdm:
    return tqdm(names, unit='model', disable=None)


if __name__ == '__main__':
    main()
