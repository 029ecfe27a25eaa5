"""An image tower on its way from another library, or to one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmclip.checkpoint.files.paths import SUFFIXES
from mmclip.errors import CheckpointError
from mmclip.registry import MODELS
from mmclip.untrusted.model_configs import take_backbone

CLIP = 'mmclip.CLIPVisionTransformer'
SIGLIP = 'mmclip.SigLIPVisionTransformer'
OTHER = 'mmclip.OpenCLIPVisionTower'
BACKBONES = (CLIP, SIGLIP, OTHER)
ZERO_SHOT = 'mmclip.ZeroShotClsHead'


@dataclass(frozen=True)
class Tower:
    """An image tower of another project, as a backbone of ours.

    Args:
        library (str): ``'open_clip'``, ``'timm'`` or ``'transformers'``.
        name (str): Its name there, or that of a config file.
        tag (str | None): The pretrained tag whose settings these are.
        backbone (dict): The config of our backbone that holds it.
        img_size (int | tuple[int, int]): Image height and width in pixels.
        preprocess (dict | None): ``mean`` and ``std`` (of pixels in 0..1),
            ``interpolation``, ``resize_mode`` and, if images are resized to
            more than is cropped, ``crop_pct``; None if it is not known.
        has_classifier (bool | None): Whether timm's ``head`` is a
            classifier, and not CLIP's projection; None if the name does not
            tell. Defaults to False.
    """

    library: str
    name: str
    tag: str | None
    backbone: dict[str, Any]
    img_size: int | tuple[int, int]
    preprocess: dict[str, Any] | None
    has_classifier: bool | None = False


# A tower and its weights, which are read when they are asked for.
Source = tuple[Tower, Callable[[], Mapping[str, Tensor]]]


@dataclass
class Export:
    """A tower in another project's names.

    Args:
        state_dict (dict[str, Tensor]): Its tensors.
        usage (str): The call that loads it there.
        notes (list[str]): What was left out or added.
        files (dict[str, dict]): JSON files that go beside the weights, by
            name; with any, the weights go into a folder.
        clip (dict | None): What a safetensors file says of it in its header.
    """

    state_dict: dict[str, Tensor]
    usage: str
    notes: list[str] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    clip: dict[str, Any] | None = None


def build_backbone(
    cfg: Any, device: str = 'cpu', num_tensors: int | None = None
) -> Any:
    """Build one of our backbones from a config, with random weights.

    Configs may come from checkpoints: nothing else is built, nor anything
    that the checkpoint cannot fill.

    Args:
        cfg (Any): ``type`` and arguments; ``init_cfg`` is not looked at.
        device (str): ``'meta'`` for no memory. Defaults to ``'cpu'``.
        num_tensors (int | None): How many tensors there are for it, so that
            it cannot have more blocks. None if that is not known.

    Returns:
        nn.Module: The backbone.

    Raises:
        CheckpointError: If it is not one of our backbones, or cannot be
            built so.
    """
    kind = cfg.get('type') if isinstance(cfg, Mapping) else None
    if not isinstance(kind, str) or kind not in BACKBONES:
        raise CheckpointError(
            f'The backbone is a {str(kind)[:50]}, and must be one of '
            f'{", ".join(BACKBONES)}.'
        )
    cfg = take_backbone(cfg, 'The backbone')
    arch = cfg.get('arch')
    depth = arch.get('depth', 0) if isinstance(arch, dict) else 0
    if num_tensors is not None and depth > num_tensors:
        raise CheckpointError(
            f'The backbone has {depth} blocks, and there are only '
            f'{num_tensors} tensors.'
        )
    try:
        with torch.device(device):
            return MODELS.build(cfg)
    except CheckpointError:
        raise
    except Exception as error:  # of open_clip's and timm's modules, any
        raise CheckpointError(
            f'The backbone cannot be built: {error}'
        ) from error


def note_head(head: Mapping[str, Tensor], where: str) -> list[str]:
    """The note on a classifier that another library has no place for."""
    if not head:
        return []
    return [f'left out: {", ".join(head)} ({where} have no classifier)']


def refuse_missing(pretrained: str, tag: str | None) -> None:
    """Refuse what is not a local file, and not a pretrained tag either.

    Args:
        pretrained (str): Of which :func:`is_local` is false.
        tag (str | None): What was said of the settings of a local file.

    Raises:
        CheckpointError: If something was.
        FileNotFoundError: If it is written like a file.
    """
    if Path(pretrained).suffix in SUFFIXES or '/' in pretrained:
        raise FileNotFoundError(f'Checkpoint {pretrained} does not exist.')
    if tag is not None:
        raise CheckpointError(
            f'--tag {tag} is for local files, and {pretrained} is not one.'
        )
