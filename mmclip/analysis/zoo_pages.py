"""The table of open_clip's image towers, and their metafile entries."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import open_clip
import torch
import yaml
from mmengine.config import Config
from mmengine.utils import to_2tuple
from tqdm import tqdm

from mmclip.analysis.complexity import Complexity, count_complexity
from mmclip.analysis.parity import make_twins, relative_difference
from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.checkpoint.towers.tower import CLIP, OTHER, Tower
from mmclip.markdown import markdown_table
from mmclip.zoo import SCHEME, zoo_name

METAFILE = Path('configs/clip/metafile_zoo.yml')
TABLE = Path('docs/zoo.md')
BEGIN, END = '<!-- table: begin -->\n', '<!-- table: end -->\n'


def metafile() -> str:
    """Make the metafile, with an entry per architecture and tag."""
    rows = []
    for name in progress(open_clip.list_models()):
        tags = open_clip.list_pretrained_tags_by_model(name)
        if not tags:
            continue
        complexity = count(find_tower(name, None))
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


def count(tower: Tower) -> Complexity:
    """Count the cost of one image, including the projection."""
    model = dict(type='ImageClassifier', backbone=tower.backbone)
    cfg = Config(dict(default_scope='mmpretrain', model=model))
    return count_complexity(cfg, to_2tuple(tower.img_size))


def table() -> str:
    """Format a row per family: names, pairs and the largest difference."""
    families: dict[tuple[str, str], list] = defaultdict(list)
    for name in progress(open_clip.list_models()):
        tower = find_tower(name, None)
        backbone = tower.backbone['type'].split('.')[1]
        pairs = len(open_clip.list_pretrained_tags_by_model(name))
        found = pairs, difference(name, tower)
        families[f'`{backbone}`', family(name, tower)].append(found)
    rows = [row(*key, families[key]) for key in sorted(families)]
    rows.append(row('', 'all', list(chain(*families.values()))))
    header = 'Family', 'Backbone', 'Names', 'Pairs'
    return markdown_table(
        [*header, 'Largest relative difference'], rows, 'llrrr'
    )


def row(backbone: str, name: str, found: list[tuple[int, float]]) -> list:
    """Sum up a family's names."""
    pairs, differences = zip(*found, strict=True)
    return [name, backbone, len(found), sum(pairs), f'{max(differences):.1e}']


def difference(name: str, tower: Tower) -> float:
    """Compare the features of one random image with open_clip's."""
    reference, backbone = make_twins(name, depth=2)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 3, *to_2tuple(tower.img_size), generator=generator)
    with torch.no_grad():
        return relative_difference(backbone(x)[-1], reference(x))


def family(name: str, tower: Tower) -> str:
    """Name a tower's family."""
    backbone = tower.backbone
    if backbone['type'] == CLIP:
        pools = {'cls_token': 'CLIP', 'avg': 'CLIPA', 'attention': 'CoCa'}
        return pools[backbone['pool']]
    if backbone['type'] != OTHER:
        return f'SigLIP, {backbone["act"]}'
    trunk = backbone['model']['vision_cfg'].get('timm_model_name')
    return 'ModifiedResNet' if trunk is None else f'timm {trunk.split("_")[0]}'


def progress(names: Iterable[str]) -> tqdm:
    """Show a progress bar over names."""
    return tqdm(names, unit='model', disable=None)
