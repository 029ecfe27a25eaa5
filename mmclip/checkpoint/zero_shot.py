"""A whole classifier from a CLIP model and the names of classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mmclip.checkpoint.class_embeddings import (
    ClassEmbeddings,
    Template,
    embed_classes,
)
from mmclip.checkpoint.sources import convert_source

HEAD = 'mmclip.ZeroShotClsHead'


def zero_shot_checkpoint(
    name: str,
    pretrained: str,
    classes: Sequence[str],
    templates: Sequence[Template],
    tag: str | None = None,
    device: str = 'cpu',
) -> dict[str, Any]:
    """Convert an image tower and give it a zero-shot head.

    Args:
        name (str): A model name of open_clip, or an
            ``open_clip_config.json``.
        pretrained (str): A pretrained tag, or a local file of the whole model.
        classes (Sequence[str]): Their names, in the order of the labels.
        templates (Sequence[str | Callable]): Texts with ``{}`` for the name,
            or functions of it.
        tag (str | None): For a local file, as in
            :func:`mmclip.checkpoint.convert_source`.
        device (str): Where the text tower runs. Defaults to ``'cpu'``.

    Returns:
        dict: A checkpoint of a classifier: ``state_dict`` with
        ``backbone.*`` and ``head.fc.*``, ``meta['clip']`` with ``head``, and
        the names of the classes in ``meta['dataset_meta']``.

    Raises:
        CheckpointError: If a name or tag is unknown, or the file does not fit.
        FileNotFoundError: If a local file is missing.
        ValueError: If there are no classes or templates.
    """
    checkpoint, _ = convert_source(name, pretrained, tag)
    found = embed_classes(name, pretrained, classes, templates, tag, device)
    num_classes, width = found.embeddings.shape
    checkpoint['state_dict'] |= _head(found)
    checkpoint['meta']['clip']['head'] = dict(
        type=HEAD, num_classes=num_classes, in_channels=width
    )
    checkpoint['meta']['dataset_meta'] = dict(classes=list(classes))
    return checkpoint


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file that are not blank.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist.')
    lines = path.read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip()]


def _head(found: ClassEmbeddings) -> dict[str, torch.Tensor]:
    return {
        'head.fc.weight': found.logit_scale * found.embeddings,
        'head.fc.bias': torch.full((len(found.embeddings),), found.logit_bias),
    }
