"""The towers of the CLIP model that a user names."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.registry import MODELS
from torch import Tensor

from mmclip.checkpoint.files.paths import find_weights
from mmclip.checkpoint.files.reading import open_weights
from mmclip.checkpoint.meta import Clip, read_clip
from mmclip.checkpoint.towers.sources import convert_source
from mmclip.checkpoint.towers.tower import HubError
from mmclip.checkpoint.unconverted import advise
from mmclip.duration import duration
from mmclip.errors import CheckpointError
from mmclip.named_model.check import SCHEME, check_model
from mmclip.text.class_embeddings import (
    ClassEmbeddings,
    Template,
    embed_classes,
)
from mmclip.text.whole_model import TokenizerError

CONFIG = 'open_clip_config.json'
PREFIX = 'backbone.'
Say = Callable[[str], None]
Embed = Callable[[Sequence[str], Sequence[Template], Say], ClassEmbeddings]


@dataclass(frozen=True)
class Projection:
    """The linear layer into CLIP's joint space.

    Args:
        weight (Tensor): ``(C, D)``.
        bias (Tensor | None): ``(D,)``, None if it has none.
    """

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, pooled: Tensor) -> Tensor:
        """Project ``(N, C)`` to ``(N, D)``."""
        projected = pooled @ self.weight
        return projected if self.bias is None else projected + self.bias


@dataclass(frozen=True)
class Encoder:
    """An image tower, and its text tower if there is one.

    Args:
        called (str): How the user named it.
        clip (dict): The tower's ``meta['clip']``.
        state_dict (dict[str, Tensor]): The tower's, without a prefix.
        embed (Callable | None): Embeds class names with templates, and says
            how long it takes; None without a text tower.
    """

    called: str
    clip: Clip
    state_dict: dict[str, Tensor]
    embed: Embed | None

    @property
    def projection(self) -> Projection | None:
        """The linear projection that can be taken off the tower, if any."""
        if self.clip['backbone'].get('pool') == 'attention':
            return None  # CoCa's pooler already works in the joint space
        weight = self.state_dict.get('proj')
        if weight is None:
            return None
        return Projection(weight, self.state_dict.get('proj_bias'))

    def backbone(self, *, projects: bool) -> dict[str, Any]:
        """Return the config of the tower, with or without its projection."""
        cfg = dict(self.clip['backbone'])
        if not projects and self.projection is not None:
            cfg.pop('proj_dim', None)
            cfg.pop('proj_bias', None)
        return cfg

    def width(self) -> int:
        """Return C, the width of features before the projection."""
        if self.projection is not None:
            return self.projection.weight.shape[0]
        backbone = MODELS.build(self.backbone(projects=True))
        size = self.clip['img_size']
        height, width = (size, size) if isinstance(size, int) else size
        with torch.inference_mode():
            return backbone.eval()(torch.zeros(1, 3, height, width))[-1].shape[
                1
            ]


def open_encoder(
    model: str,
    weights: str | None = None,
    device: str | None = None,
) -> Encoder:
    """Find a CLIP model and convert its image tower.

    Args:
        model (str): ``'NAME/TAG'`` of open_clip, with or without
            ``open_clip://``; a folder with ``open_clip_config.json`` and
            weights; or a file that mmclip converted or trained, which has no
            text tower.
        weights (str | None): A local file with the weights of
            ``'NAME/TAG'``. Defaults to None: open_clip's download.
        device (str | None): Where texts are embedded. Defaults to None: on a
            GPU if there is one.

    Raises:
        ArgumentError: If a local model has weights already.
        CheckpointError: If it is unknown, or is not a CLIP model.
        FileNotFoundError: If a local file is missing.
    """
    check_model(model, weights)
    device = device or get_device()
    path, tag = Path(model).expanduser(), None
    if path.is_file():
        return _converted(model)
    if path.is_dir():
        name, pretrained = str(path / CONFIG), str(_weights_in(path))
    else:
        name, _, known_tag = model.removeprefix(SCHEME).partition('/')
        pretrained = weights or known_tag
        tag = known_tag if weights else None
    try:
        checkpoint, _ = convert_source(name, pretrained, tag)
    except HubError as error:
        raise CheckpointError(
            f'{error.fetch} add to the command: --weights {error.file}'
        ) from error

    def embed(
        classes: Sequence[str], templates: Sequence[Template], say: Say
    ) -> ClassEmbeddings:
        def announce(texts: int, seconds: float) -> None:
            say(
                f'{texts:,} texts with the classes on {device}: about '
                f'{duration(seconds)}'
            )

        try:
            return embed_classes(
                name,
                pretrained,
                classes,
                templates,
                tag,
                device,
                announce=announce,
            )
        except TokenizerError as error:
            out = f'{name}.pth'
            convert = ['mmclip', 'convert', name, pretrained, out]
            convert += ['--tag', tag] if tag else []
            raise CheckpointError(
                f'{error} Or use the image tower alone, without zero-shot and '
                f'what starts from it: type {shlex.join(convert)}, then adapt '
                f'with --model {out}.'
            ) from error

    return Encoder(
        model,
        checkpoint['meta']['clip'],
        _without_prefix(checkpoint['state_dict']),
        embed,
    )


def _converted(path: str) -> Encoder:
    weights = open_weights(path)
    clip = read_clip(weights.content, path)
    tower = _without_prefix(
        {key: weights[key] for key in weights if key.startswith(PREFIX)}
    )
    if clip is None or not tower:
        advice = advise(path, weights) or 'its names are not those of CLIP.'
        raise CheckpointError(f'{path} was not made by mmclip: {advice}')
    if not clip['preprocess']:
        raise CheckpointError(
            f'{path} does not say how images must be prepared; convert it '
            'again with: mmclip convert'
        )
    return Encoder(path, clip, tower, None)


def _weights_in(folder: Path) -> Path:
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f'{folder} has no {CONFIG}.')
    return find_weights(folder)


def _without_prefix(tensors: Any) -> dict[str, Tensor]:
    return {key.removeprefix(PREFIX): tensors[key] for key in tensors}
