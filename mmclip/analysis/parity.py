"""Comparison of backbones with the models that they replace."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmclip.checkpoint.files.paths import is_local
from mmclip.checkpoint.files.reading import open_weights
from mmclip.checkpoint.meta import read_clip
from mmclip.checkpoint.pretrained import PretrainedCLIP
from mmclip.checkpoint.towers.convert import check_complete, convert, recognise
from mmclip.checkpoint.towers.dialects import (
    OPEN_CLIP_TOWER,
    TIMM_CLASSIFIER,
    TIMM_MODEL_CLASSIFIER,
)
from mmclip.checkpoint.towers.open_clip import find_model, find_tower
from mmclip.checkpoint.towers.sources import (
    convert_source,
    dialect_of,
    find_source,
)
from mmclip.checkpoint.towers.tower import OTHER, Tower, build_backbone
from mmclip.errors import CheckpointError
from mmclip.models.loading import CALLER, loaded_by


def make_twins(
    name: str,
    tag: str | None = None,
    depth: int | None = None,
    width: int | None = None,
    **ours: Any,
) -> tuple[nn.Module, nn.Module]:
    """Build open_clip's tower and our backbone with the same random weights.

    Args:
        name (str): An open_clip model name.
        tag (str | None): The tag whose activation the towers use.
        depth (int | None): The number of blocks, to save memory and time;
            None for all. Towers that are not vision transformers keep all.
        width (int | None): Channels of a vision transformer; it then has two
            heads and twice as many channels in its MLPs. The first weights of
            these are enlarged, so that the activation still sees values at
            which others differ. None for its own width.
        **ours (Any): Arguments of our backbone that differ from open_clip's
            config, to make it wrong.

    Returns:
        tuple[nn.Module, nn.Module]: open_clip's tower and our backbone, both
        in eval mode.
    """
    import open_clip
    from open_clip.model import _build_vision_tower

    torch.manual_seed(0)
    model_cfg = open_clip.get_model_config(name)
    cfg = dict(find_tower(name, tag).backbone)
    vision_cfg = dict(model_cfg['vision_cfg'], output_tokens=False)
    is_native = isinstance(vision_cfg.get('layers'), int)
    sizes = {} if depth is None else dict(depth=depth)
    if is_native and depth is not None:
        vision_cfg['layers'] = depth
    if width is not None:
        sizes |= dict(width=width, num_heads=2, mlp_width=2 * width)
        vision_cfg |= dict(width=width, head_width=width // 2, mlp_ratio=2.0)
    if 'arch' in cfg:
        cfg['arch'] = cfg['arch'] | sizes
    vision_cfg['patch_dropout'] = ours.get('patch_dropout', 0.0)
    quick_gelu = cfg.get('act') == 'quick_gelu'
    with nullcontext() if is_native or not sizes else _smaller(sizes):
        reference = _build_vision_tower(
            model_cfg['embed_dim'], vision_cfg, quick_gelu
        )
        backbone = build_backbone(cfg | ours)
    randomize(reference)
    for key, parameter in reference.named_parameters():
        if width is not None and key.endswith(('c_fc.weight', 'fc1.weight')):
            parameter.data *= 6
    weights = to_ours(reference.state_dict(), backbone)
    backbone.load_state_dict(weights, strict='proj_dim' not in ours)
    return reference.eval(), backbone.eval()


def to_ours(
    tensors: dict[str, Tensor], backbone: nn.Module
) -> dict[str, Tensor]:
    """Rename an open_clip tower's weights or gradients to our names."""
    prefixed = {f'visual.{name}': tensor for name, tensor in tensors.items()}
    is_other = f'mmclip.{type(backbone).__name__}' == OTHER
    dialect = OPEN_CLIP_TOWER if is_other else recognise(prefixed)
    return convert(prefixed, dialect).state_dict


def randomize(module: nn.Module) -> None:
    """Change norms and biases from their initial ones and zeros."""
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)


def relative_difference(ours: Tensor, reference: Tensor) -> float:
    """Return the largest difference over the largest reference value."""
    return ((ours - reference).abs().max() / reference.abs().max()).item()


@contextmanager
def _smaller(sizes: dict[str, int]) -> Iterator[None]:
    """Make open_clip build timm's vision transformers with these sizes."""
    import timm

    create = timm.create_model
    names = dict(depth='depth', width='embed_dim', num_heads='num_heads')
    changes: dict[str, Any] = {
        names[ours]: size for ours, size in sizes.items() if ours in names
    }
    if 'mlp_width' in sizes:
        changes |= dict(mlp_ratio=sizes['mlp_width'] / sizes['width'])

    def create_smaller(model_name: str, **kwargs: Any) -> nn.Module:
        try:
            return create(model_name, **(changes | kwargs))
        except TypeError:  # not a vision transformer
            return create(model_name, **kwargs)

    with mock.patch('timm.create_model', create_smaller):
        yield


def compare_with_library(
    path: str,
    name: str,
    pretrained: str,
    tag: str | None = None,
    num_images: int = 4,
) -> float:
    """Compare a weights file with a model of open_clip or timm.

    Both encode random images. Classifiers are compared without their heads.

    Args:
        path (str): The file. Our metadata in it defines the backbone; without
            any, the tag does.
        name (str): The name of a model.
        pretrained (str): One of its pretrained tags, or a local file.
        tag (str | None): For a local file: the tag whose activation it uses,
            ``'none'`` for the model config's own.
        num_images (int): How many normally distributed images to compare on.
            Defaults to 4.

    Returns:
        float: The largest difference over the largest feature value.

    Raises:
        CheckpointError: If either cannot be read or converted, or the local
            file belongs to another model or its activation is unclear.
    """
    tower, read = find_source(name, pretrained, tag)
    if tower.library == 'transformers':
        raise CheckpointError(
            f'{name} is from transformers; give a model name of open_clip or '
            'timm.'
        )
    try:
        if tower.library == 'timm':
            reference = load_timm_reference(tower, read())
        else:
            reference = load_reference(name, tower, read())
    except CheckpointError as error:
        raise CheckpointError(
            f'{pretrained} does not load into {name}: {error}'
        ) from None
    own_tag = tag if is_local(pretrained) else pretrained
    backbone = _load_ours(path, name, own_tag)
    generator = torch.Generator().manual_seed(0)
    height, width = to_2tuple(tower.img_size)
    images = torch.randn(num_images, 3, height, width, generator=generator)
    with torch.no_grad():
        wanted, ours = reference(images), backbone(images)[-1]
    if ours.shape != wanted.shape:
        raise CheckpointError(
            f'{path} gives features of shape {tuple(ours.shape)}, but {name} '
            f'gives {tuple(wanted.shape)}.'
        )
    return relative_difference(ours, wanted)


def load_reference(
    name: str, tower: Tower, weights: Mapping[str, Tensor]
) -> nn.Module:
    """Build open_clip's own image tower with open_clip's weights."""
    from open_clip.model import _build_vision_tower

    model_cfg = find_model(name, None)[0]
    reference = _build_vision_tower(
        model_cfg['embed_dim'],
        dict(model_cfg['vision_cfg'], output_tokens=False),
        tower.backbone.get('act') == 'quick_gelu',
    )
    visual = {
        key.removeprefix('visual.'): weights[key]
        for key in weights
        if key.startswith('visual.')
    }
    check_complete(visual, reference.state_dict())
    reference.load_state_dict(visual)
    return reference.eval()


def load_timm_reference(
    tower: Tower, weights: Mapping[str, Tensor]
) -> nn.Module:
    """Build timm's own model with timm's weights, without a classifier."""
    import timm

    kinds = (TIMM_CLASSIFIER, TIMM_MODEL_CLASSIFIER)
    left_out = 'head.' if dialect_of(tower, weights) in kinds else ()
    tensors = {k: weights[k] for k in weights if not k.startswith(left_out)}
    num_classes = len(tensors.get('head.bias', ()))
    reference = timm.create_model(tower.name, num_classes=num_classes)
    check_complete(tensors, reference.state_dict())
    reference.load_state_dict(tensors)
    return reference.eval()


def _load_ours(path: str, name: str, tag: str | None) -> nn.Module:
    weights = open_weights(path)
    if weights.clip is None:
        checkpoint, _ = convert_source(name, path, tag)
    else:
        checkpoint = weights.read()
    clip: Any = read_clip(checkpoint, path)
    with loaded_by(CALLER):
        module = build_backbone(clip['backbone'])
    PretrainedCLIP(path).load(checkpoint, module)
    return module.eval()
