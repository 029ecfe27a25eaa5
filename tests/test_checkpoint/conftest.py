"""What the tests of several sources of weights need."""

import copy
import os
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from torch import nn

from mmclip.analysis.parity import relative_difference
from mmclip.checkpoint import convert_source
from mmclip.checkpoint.towers.tower import CLIP, SIGLIP, build_backbone
from tests.conftest import RELATIVE_TOLERANCE, TinyModel

SMALL = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=32,
    patch_size=8,
)


@pytest.fixture(scope='session')
def _converted(tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp('tiny')
    tiny, source = TinyModel.create(folder / 'tiny.json'), folder / 'tiny.pt'
    torch.save(tiny.model.state_dict(), source)
    return convert_source(str(tiny.config), str(source))[0], source


@pytest.fixture
def converted(_converted) -> tuple[dict, Path]:
    """``tiny_model`` converted, and the file that it came from."""
    return copy.deepcopy(_converted)


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def feature(checkpoint: dict, x: torch.Tensor) -> torch.Tensor:
    """Of a converted checkpoint's own backbone."""
    backbone = build_backbone(checkpoint['meta']['clip']['backbone'])
    backbone.load_state_dict(
        {
            key.removeprefix('backbone.'): tensor
            for key, tensor in checkpoint['state_dict'].items()
            if key.startswith('backbone.')
        }
    )
    with torch.no_grad():
        return backbone.eval()(x)[0]


def shrink(patch: pytest.MonkeyPatch, *names: str, **sizes: object) -> None:
    """Give models of open_clip small towers under their own names.

    Args:
        patch (pytest.MonkeyPatch): Gives them back their own.
        names (str): Of models.
        sizes (object): Of ``vision_cfg``, if not two narrow blocks.
    """
    blocks = dict(layers=2, width=64, head_width=32, mlp_ratio=2.0)
    for name in names:
        config = open_clip.get_model_config(name)
        config['vision_cfg'] |= sizes or blocks
        if 'hf_model_name' not in config['text_cfg']:
            config['text_cfg'] |= dict(width=16, heads=2, layers=1)
        patch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)


def shrink_timm(patch: pytest.MonkeyPatch) -> None:
    """Give timm's vision transformers two narrow blocks."""
    small = dict(depth=2, embed_dim=64, num_heads=2, mlp_ratio=2)
    create = timm.create_model
    patch.setattr(
        timm, 'create_model', lambda *args, **kw: create(*args, **small, **kw)
    )


CLIP_BACKBONE = dict(
    type=CLIP,
    arch=dict(width=32, depth=2, num_heads=2, mlp_width=96),
    act='quick_gelu',
    img_size=32,
    patch_size=8,
)
# The tower of ``tiny_model``, without its projection.
TINY_BACKBONE = CLIP_BACKBONE | dict(
    arch=dict(width=32, depth=2, num_heads=2, mlp_width=128)
)
SIGLIP_BACKBONE = CLIP_BACKBONE | dict(type=SIGLIP, act='gelu_tanh')


def make_checkpoint(
    backbone: dict,
    num_classes: int | None = None,
    seed: int = 0,
    **meta: object,
) -> tuple[dict, nn.Module]:
    """Random weights of a backbone, described if ``meta`` is not empty.

    Returns:
        tuple[dict, nn.Module]: The checkpoint, and the module.
    """
    module = randomized(build_backbone(backbone), seed)
    tensors = {f'backbone.{k}': v for k, v in module.state_dict().items()}
    if num_classes:
        head = nn.Linear(32, num_classes)
        module = nn.Sequential(module, First(), head)
        tensors |= {f'head.fc.{k}': v for k, v in head.state_dict().items()}
    meta = dict(clip=dict(backbone=backbone, **meta)) if meta else {}
    return dict(meta=meta, state_dict=tensors), module


class First(nn.Module):
    """Takes the one output of a backbone."""

    def forward(self, x: tuple[torch.Tensor]) -> torch.Tensor:
        return x[0]


def assert_same(ours, theirs, x: torch.Tensor | None = None) -> None:
    """Compare the outputs of two models for random images."""
    x = torch.randn(2, 3, 32, 32) if x is None else x
    with torch.no_grad():
        ours, theirs = ours(x), theirs(x)
    ours = ours[0] if isinstance(ours, tuple) else ours
    assert relative_difference(ours, theirs) <= RELATIVE_TOLERANCE


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)
