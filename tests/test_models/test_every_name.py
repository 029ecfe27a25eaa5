"""Every image tower of open_clip has one of ours that gives its output.

One name of each structure is compared at a small width, every name by its
shapes, and, in an exhaustive test, every name by its output at full width.
"""

import open_clip
import pytest
import torch
from mmengine.utils import to_2tuple
from open_clip.model import _build_vision_tower

from mmclip.analysis.parity import make_twins, relative_difference
from mmclip.checkpoint import CheckpointError
from mmclip.checkpoint.towers.convert import check_complete, export, recognise
from mmclip.checkpoint.towers.dialects import OPEN_CLIP_TOWER
from mmclip.checkpoint.towers.open_clip import find_model, find_tower
from mmclip.checkpoint.towers.tower import OTHER, build_backbone
from tests.conftest import RELATIVE_TOLERANCE

NAMES = open_clip.list_models()
# The first name of each structure that our own transformers have.
STRUCTURES = [
    'MobileCLIP2-L-14',
    'ViT-B-16',
    'ViT-B-16-SigLIP',
    'ViT-B-16-quickgelu',
    'ViT-B-32',
    'ViT-B-32-SigLIP2-256',
    'ViT-B-32-quickgelu',
    'ViT-H-14',
    'ViT-H-14-378-quickgelu',
    'ViT-H-14-CLIPA',
    'ViT-L-16-SigLIP2-512',
    'ViT-M-16-alt',
    'ViT-SO400M-14-SigLIP',
    'ViT-SO400M-14-SigLIP-384',
    'coca_ViT-B-32',
    'coca_ViT-L-14',
    'coca_base',
]
# The smallest of each kind of module that stays open_clip's own.
MODULES = [
    'EVA02-B-16',
    'MobileCLIP-B',
    pytest.param('MobileCLIP-S1', marks=pytest.mark.slow),
    'PE-Core-T-16-384',
    'RN50',
    'ViTamin-S',
    'convnext_tiny',
    pytest.param('swin_base_patch4_window7_224', marks=pytest.mark.slow),
    'vit_medium_patch16_gap_256',
    'vit_relpos_medium_patch16_cls_224',
]


@pytest.mark.parametrize('name', STRUCTURES)
def test_each_structure_gives_the_same_output(name):
    assert difference(name, width=64) <= RELATIVE_TOLERANCE


@pytest.mark.parametrize('name', MODULES)
def test_each_kind_of_module_gives_the_same_output(name):
    assert difference(name) == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize('name', NAMES)
def test_every_name_gives_the_same_output(name):
    bound = RELATIVE_TOLERANCE if is_ours(name) else 0
    assert difference(name) <= bound


def difference(name, width=None):
    """Of one random image's feature, in towers of two blocks."""
    reference, backbone = make_twins(name, depth=2, width=width)
    size = to_2tuple(find_tower(name, None).img_size)
    torch.manual_seed(1)
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        return relative_difference(backbone(x)[-1], reference(x))


@pytest.mark.slow
def test_no_structure_is_left_out():
    found = {structure(name): name for name in sorted(NAMES, reverse=True)}
    assert sorted(filter(is_ours, found.values())) == STRUCTURES


def structure(name):
    """What a tower is apart from its sizes."""
    backbone = dict(find_tower(name, None).backbone)
    if backbone['type'] == OTHER:
        return OTHER
    (size, _) = to_2tuple(backbone.pop('img_size'))
    has_remainder = size % backbone['patch_size'] != 0
    has_projection = backbone.pop('proj_dim', None) is not None
    del backbone['arch']
    return str((backbone, has_remainder, has_projection))


def is_ours(name):
    return find_tower(name, None).backbone['type'] != OTHER


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_every_name_has_the_same_shapes(name):
    """And open_clip's own modules are those that are built again."""
    reference, backbone = on_meta(name, find_tower(name, None).backbone)
    check_shapes(reference, backbone)
    if not is_ours(name):
        assert repr(backbone.tower) == repr(reference)


@pytest.mark.parametrize('name', ['ViT-B-32', 'ViT-B-16-SigLIP'])
def test_other_shapes_would_be_seen(name):
    cfg = find_tower(name, None).backbone
    wrong = cfg | dict(arch=cfg['arch'] | dict(mlp_width=64))
    with pytest.raises(CheckpointError, match='shape: visual'):
        check_shapes(*on_meta(name, wrong))


def on_meta(name, cfg):
    """open_clip's tower and the backbone of a config, without values."""
    model_cfg = find_model(name, None)[0]
    with torch.device('meta'):
        reference = _build_vision_tower(
            model_cfg['embed_dim'],
            dict(model_cfg['vision_cfg'], output_tokens=False),
            cfg.get('act') == 'quick_gelu',
        )
    return reference, build_backbone(cfg, 'meta')


def check_shapes(reference, backbone):
    """Compare our tensors, in open_clip's names, with open_clip's."""
    theirs = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    is_other = f'mmclip.{type(backbone).__name__}' == OTHER
    dialect = OPEN_CLIP_TOWER if is_other else recognise(theirs)
    prefix = dialect.prefix_in(theirs)
    check_complete(export(backbone.state_dict(), dialect, prefix), theirs)
