"""Count the lines of our configs and of others' for the same, as Markdown.

    python tests/downstream/config_lines.py CHECKOUT

CHECKOUT is one of mmdetection's repository, whose projects are not installed.
All files are first formatted alike, without comments and docstrings. Counted
are a config and those of its bases that no other package's or task's configs
have.
"""

import ast
import sys
from importlib.util import find_spec
from pathlib import Path

from yapf.yapflib.yapf_api import FormatCode

OURS = Path(__file__).parents[2] / 'configs'
HEAD = (
    '| config | on top of | lines | its backbone |\n| :-- | :-- | --: | --: |'
)
Row = tuple[str, str, list[Path], Path]


def configs_of(package: str) -> Path:
    return Path(find_spec(package).origin).parent / '.mim' / 'configs'


def rows(checkout: Path) -> list[Row]:
    """Return names, what is shared, files to count, that of the backbone."""
    seg, pose = configs_of('mmseg'), configs_of('mmpose')
    vit_det = checkout / 'projects' / 'ViTDet' / 'configs'
    upernet = OURS / 'mmseg' / 'clip-b16_upernet_ade20k-512.py'
    mask_rcnn = OURS / 'mmdet' / 'clip-b16_mask-rcnn_coco-1024.py'
    mask_rcnn_vit = vit_det / 'vitdet_mask-rcnn_vit-b-mae_lsj-100e.py'
    pose_vit = pose.joinpath(
        'body_2d_keypoint/topdown_heatmap/coco',
        'td-hm_ViTPose-base_8xb64-210e_coco-256x192.py',
    )
    pose_ours = OURS / 'mmpose' / 'clip-b16_vitpose_coco-256x192.py'
    return [
        (
            'UPerNet, ours',
            "mmseg's UPerNet on a ViT, data, runtime",
            [upernet, OURS / '_base_' / 'mmseg_160k.py'],
            upernet,
        ),
        (
            "UPerNet, mmseg's ViT",
            'the same',
            [
                seg
                / 'vit'
                / 'vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py'
            ],
            seg / '_base_' / 'models' / 'upernet_vit-b16_ln_mln.py',
        ),
        (
            'Mask R-CNN, ours',
            "mmdet's Mask R-CNN on a ResNet, data, runtime",
            [mask_rcnn, OURS / '_base_' / 'mmdet.py'],
            mask_rcnn,
        ),
        (
            "Mask R-CNN, mmdet's ViTDet project",
            "mmdet's Mask R-CNN on a ResNet, runtime",
            [mask_rcnn_vit, vit_det / 'lsj-100e_coco-instance.py'],
            mask_rcnn_vit,
        ),
        ('ViTPose, ours', 'the next', [pose_ours], pose_ours),
        ("ViTPose, mmpretrain's ViT", 'the runtime', [pose_vit], pose_vit),
    ]


def alike(path: Path) -> str:
    """Return a config's code, formatted by PEP 8."""
    tree = ast.parse(path.read_text())
    tree.body = [
        part
        for part in tree.body
        if not (
            isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
        )
    ]
    text, _ = FormatCode(ast.unparse(tree), style_config='pep8')
    return text


def num_lines(path: Path) -> int:
    return sum(bool(line.strip()) for line in alike(path).splitlines())


def backbone_lines(path: Path) -> int:
    (found,) = (
        part.value.end_lineno - part.value.lineno + 1
        for part in ast.walk(ast.parse(alike(path)))
        if isinstance(part, ast.keyword) and part.arg == 'backbone'
    )
    return found


def main(checkout: Path) -> None:
    print(HEAD)
    for name, shared, files, backbone in rows(checkout):
        lines = sum(map(num_lines, files))
        print(f'| {name} | {shared} | {lines} | {backbone_lines(backbone)} |')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
