"""Image towers on their way from or to another library."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmclip.checkpoint.files.paths import SUFFIXES, find_weights
from mmclip.errors import CheckpointError
from mmclip.untrusted.model_configs import take_backbone

CLIP = 'mmclip.CLIPVisionTransformer'
SIGLIP = 'mmclip.SigLIPVisionTransformer'
OTHER = 'mmclip.OpenCLIPVisionTower'
TIMM_TOWER = 'mmclip.TimmVisionTower'
# These hold another library's own module, by its name there.
MODULES = (OTHER, TIMM_TOWER)
# In these modules, which need neither mmpretrain nor other towers.
BACKBONES = {
    CLIP: 'mmclip.models.clip_vit',
    SIGLIP: 'mmclip.models.siglip_vit',
    OTHER: 'mmclip.models.library_towers.open_clip_tower',
    TIMM_TOWER: 'mmclip.models.library_towers.timm_tower',
}
ZERO_SHOT = 'mmclip.ZeroShotClsHead'


@dataclass(frozen=True)
class Tower:
    """An image tower from another library, described as one of our backbones.

    Args:
        library (str): ``'open_clip'``, ``'timm'`` or ``'transformers'``.
        name (str): Its name there, or that of a config file.
        tag (str | None): The pretrained tag that the settings belong to.
        backbone (dict): The config of our backbone.
        img_size (int | tuple[int, int]): Image height and width in pixels.
        preprocess (dict | None): ``mean`` and ``std`` (of pixels in 0..1),
            ``interpolation``, ``resize_mode`` and, if images are resized to
            more than the crop, ``crop_pct``; None if unknown.
        has_classifier (bool | None): Whether timm's ``head`` is a classifier
            rather than CLIP's projection; None if the name does not tell.
            Defaults to False.
    """

    library: str
    name: str
    tag: str | None
    backbone: dict[str, Any]
    img_size: int | tuple[int, int]
    preprocess: dict[str, Any] | None
    has_classifier: bool | None = False


# A tower, and a function that reads its weights.
Source = tuple[Tower, Callable[[], Mapping[str, Tensor]]]


@dataclass
class Export:
    """A tower with another library's names.

    Args:
        state_dict (dict[str, Tensor]): Its tensors.
        usage (Callable): Returns the Python that loads it there, for the path
            that it was written to.
        notes (list[str]): What was left out or added.
        files (dict[str, dict]): JSON files that go with the weights, by name;
            if there are any, all are written into a folder.
        clip (dict | None): The description for a safetensors file's header.
    """

    state_dict: dict[str, Tensor]
    usage: Callable[[Path], str]
    notes: list[str] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    clip: dict[str, Any] | None = None


def build_backbone(
    cfg: Any, device: str = 'cpu', num_tensors: int | None = None
) -> Any:
    """Build one of our backbones from a config, with random weights.

    Configs may come from checkpoints, so nothing else is built, nor anything
    larger than the checkpoint.

    Args:
        cfg (Any): ``type`` and arguments; ``init_cfg`` is ignored.
        device (str): ``'meta'`` takes no memory. Defaults to ``'cpu'``.
        num_tensors (int | None): The number of tensors for it; it may not
            have more blocks. None if unknown.
    """
    kind = cfg.get('type') if isinstance(cfg, Mapping) else None
    if not isinstance(kind, str) or kind not in BACKBONES:
        raise CheckpointError(
            f'The backbone must be one of {", ".join(BACKBONES)}; got '
            f'{str(kind)[:50]}.'
        )
    cfg = take_backbone(cfg)
    arch = cfg.get('arch')
    depth = arch.get('depth', 0) if isinstance(arch, dict) else 0
    if num_tensors is not None and depth > num_tensors:
        raise CheckpointError(
            f'The backbone has {depth} blocks, but there are only '
            f'{num_tensors} tensors.'
        )
    try:
        module = importlib.import_module(BACKBONES[kind])
        arguments = {k: v for k, v in cfg.items() if k != 'type'}
        with torch.device(device):
            return getattr(module, kind.partition('.')[2])(**arguments)
    except CheckpointError:
        raise
    except Exception as error:  # of open_clip's and timm's modules, any
        raise CheckpointError(
            f'The backbone cannot be built: {error}'
        ) from error


class HubError(CheckpointError):
    """Weights cannot be downloaded here.

    Attributes:
        fetch (str): Which file to fetch, and where to put it.
        file (str): Its name.
    """

    def __init__(
        self,
        name: str,
        tag: str,
        repository: str,
        file: str,
        *,
        has_text: bool,
    ):
        self.file = file
        self.fetch = (
            f'The weights of {name} {tag} could not be downloaded: the hub is '
            f'out of reach. Fetch {file} from '
            f'https://huggingface.co/{repository} elsewhere, put it into this '
            'folder, and'
        )
        advice = (
            f'{self.fetch} type, for the image tower that configs take: '
            f'mmclip convert {name} {file} {name}.pth --tag {tag}'
        )
        if has_text:
            advice += (
                f', or for a classifier: mmclip zero-shot {name} {file} '
                f'OUT.pth --tag {tag} (with your other options)'
            )
        super().__init__(f'{advice}.')


def load_call(out: Path) -> tuple[str, str]:
    """Return the import and the call that read weights in Python."""
    if out.suffix == '.safetensors':
        return (
            'from safetensors.torch import load_file',
            f'load_file({str(out)!r})',
        )
    return 'import torch', f'torch.load({str(out)!r})'


def note_head(head: Mapping[str, Tensor], where: str) -> list[str]:
    """Return a note if another library has no place for a classifier."""
    if not head:
        return []
    return [f'left out: {", ".join(head)} (no classifier in {where})']


def refuse_missing(pretrained: str, tag: str | None) -> None:
    """Refuse a missing local file, or a ``--tag`` without a local file."""
    if Path(pretrained).suffix in SUFFIXES or '/' in pretrained:
        if Path(pretrained).is_dir():
            find_weights(Path(pretrained))  # says that there are none
        raise FileNotFoundError(f'Checkpoint {pretrained} does not exist.')
    if tag is not None:
        raise CheckpointError(
            f'--tag {tag} is for local files, but {pretrained} is not one.'
        )
