"""What several test files need: towers of open_clip and their twins."""

import dataclasses
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import _build_vision_tower
from torch import Tensor, nn

from mmclip.checkpoint import CheckpointError
from mmclip.checkpoint.convert import convert
from mmclip.checkpoint.dialects import OPEN_CLIP
from mmclip.checkpoint.from_open_clip import find_tower
from mmclip.models import CLIPVisionTransformer

REPOSITORY = Path(__file__).parents[1]
# fp32, the bound that every output of ours keeps to open_clip's.
RELATIVE_TOLERANCE = 2e-5


def plain_names() -> list[str]:
    """Every model name of open_clip whose image tower is plain."""
    names = []
    for name in open_clip.list_models():
        try:
            find_tower(name, None)
        except CheckpointError:
            continue
        names.append(name)
    return names


def to_ours(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an open_clip tower (weights or gradients), in our names."""
    prefixed = {f'visual.{name}': tensor for name, tensor in tensors.items()}
    return convert(prefixed, OPEN_CLIP).state_dict


def make_twins(
    name: str, tag: str | None = None, depth: int | None = None, **ours: object
) -> tuple[nn.Module, CLIPVisionTransformer]:
    """open_clip's tower with random weights, and our backbone with the same.

    ``depth`` cuts the number of blocks, to fit memory and time; ``ours`` are
    arguments of our backbone that differ from what open_clip's config says.
    """
    torch.manual_seed(0)
    model_cfg = open_clip.get_model_config(name)
    tower = find_tower(name, tag)
    vision_cfg, arch = dict(model_cfg['vision_cfg']), dict(tower.arch)
    if depth is not None:
        vision_cfg['layers'] = depth
        arch['arch'] = arch['arch'] | dict(depth=depth)
    vision_cfg['patch_dropout'] = ours.get('patch_dropout', 0.0)
    vision_cfg['output_tokens'] = False
    reference = _build_vision_tower(
        model_cfg['embed_dim'],
        vision_cfg,
        quick_gelu=arch['act'] == 'quick_gelu',
    )
    randomize(reference)
    backbone = CLIPVisionTransformer(**(arch | ours))
    weights = to_ours(reference.state_dict())
    backbone.load_state_dict(weights, strict='proj_dim' not in ours)
    return reference, backbone


def randomize(module: nn.Module) -> None:
    """Make norms and biases count: they start at one and zero."""
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)


def relative_difference(ours: Tensor, reference: Tensor) -> float:
    """The largest difference over the largest reference value."""
    return ((ours - reference).abs().max() / reference.abs().max()).item()


@pytest.fixture
def tiny_model(tmp_path: Path) -> 'TinyModel':
    """A small random open_clip model with its config file."""
    return TinyModel.create(tmp_path / 'tiny.json')


@dataclasses.dataclass
class TinyModel:
    """A whole open_clip model (both towers), and the file of its config."""

    config: Path
    model: nn.Module

    @classmethod
    def create(cls, config: Path, quick_gelu: bool = True) -> 'TinyModel':
        import json

        model_cfg = dict(
            embed_dim=24,
            quick_gelu=quick_gelu,
            vision_cfg=dict(
                layers=2, width=32, head_width=16, patch_size=8, image_size=32
            ),
            text_cfg=dict(
                context_length=8, vocab_size=49408, width=16, heads=2, layers=1
            ),
        )
        config.write_text(json.dumps(model_cfg))
        torch.manual_seed(0)
        model = open_clip.CLIP(**model_cfg)
        randomize(model.visual)
        return cls(config, model.eval())
