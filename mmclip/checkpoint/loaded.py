"""The backbone of ours in a model, and what the weights in it said."""

from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from mmclip.checkpoint.meta import (
    Clip,
    differences_from,
    kind_of,
    outputs,
    properties_of,
    read_clip,
)
from mmclip.errors import CheckpointError

_NOTE = '_loaded_clip'


def unwrapped(model: Any) -> Any:
    """A model without what makes it parallel, or averages over views."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def find_backbone(model: nn.Module) -> Any:
    """The backbone of ours in a model, None if there is none.

    It may be the model itself, or be wrapped by LoRA. Of several it is that
    which the model calls ``backbone``; several others that are not alike (a
    teacher and a student) count as none.
    """
    model = unwrapped(model)
    found = {
        name: module
        for name, module in model.named_modules()
        if kind_of(module) is not None
    }
    named = [m for n, m in found.items() if n.split('.')[0] == 'backbone']
    first, *others = named or list(found.values()) or [None]
    alike = all(
        properties_of(other) | dict(img_size=other.img_size)
        == properties_of(first) | dict(img_size=first.img_size)
        for other in others
    )
    return first if alike else None


def compare_with_model(
    checkpoint: Mapping[str, Any], model: nn.Module, where: str
) -> Clip | None:
    """Refuse weights of another tower than a model's backbone is.

    The backbone remembers what the weights say, see :func:`loaded_clip`.

    Args:
        checkpoint (Mapping): As it was read.
        model (nn.Module): A model, or a part of one.
        where (str): What errors call the checkpoint, such as its path.

    Returns:
        dict | None: What the checkpoint says of itself; None if it does not,
        or the model has no backbone of ours.

    Raises:
        CheckpointError: Naming all that differs.
    """
    clip, backbone = read_clip(checkpoint, where), find_backbone(model)
    if clip is None or backbone is None:
        return None
    if differences := differences_from(clip, backbone):
        raise CheckpointError(
            f'{where} does not fit the backbone: {"; ".join(differences)}.'
        )
    note_loaded(backbone, clip)
    return clip


def unlike_outputs(clip: Clip, model: Any, backbone: Any) -> list[str]:
    """What of a whole model's outputs is not so as its weights say.

    Args:
        clip (dict): Of the weights.
        model (nn.Module): The whole model.
        backbone (nn.Module): Its backbone.
    """
    own = outputs(dict(type=kind_of(backbone)) | backbone.architecture())
    theirs = outputs(clip['backbone'])
    problems = [
        f'{key}: checkpoint {theirs[key]!r}, backbone {own[key]!r}'
        for key in theirs
        if theirs[key] != own[key]
    ]
    said = clip.get('head', {}).get('type', '')
    head = type(getattr(model, 'head', None)).__name__
    if said and hasattr(model, 'head') and said.rpartition('.')[2] != head:
        problems.append(f'head: checkpoint {said!r}, model {head!r}')
    return problems


def note_loaded(backbone: Any, clip: Clip | None) -> None:
    """Let a backbone remember what the weights said that it was given."""
    backbone.__dict__[_NOTE] = clip


def loaded_clip(backbone: Any) -> Clip | None:
    """What the weights said that a backbone was given last, if anything."""
    return backbone.__dict__.get(_NOTE)
