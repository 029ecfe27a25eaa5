"""Whole classifiers from CLIP models and class names."""

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmclip.checkpoint.describe import (
    describe_model,
    load_trained,
    pipeline_of,
)
from mmclip.checkpoint.towers.sources import convert_found, find_source
from mmclip.errors import CheckpointError
from mmclip.text.class_embeddings import Template, embed_classes

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
        name (str): An open_clip model name, or a JSON config of open_clip.
        pretrained (str): A pretrained tag, or a local file of the whole model.
        classes (Sequence[str]): Class names, in the order of the labels.
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
    tower, read = find_source(name, pretrained, tag)
    weights = read()
    checkpoint, _ = convert_found((tower, lambda: weights), pretrained)
    found = embed_classes(
        name, pretrained, classes, templates, tag, device, weights
    )
    num_classes, width = found.embeddings.shape
    checkpoint['state_dict'] |= {
        f'head.{key}': tensor for key, tensor in found.head().items()
    }
    checkpoint['meta']['clip'] |= dict(
        head=dict(type=HEAD, num_classes=num_classes, in_channels=width),
        classes=[str(name) for name in classes],
    )
    checkpoint['meta']['dataset_meta'] = dict(classes=list(classes))
    return checkpoint


def without_text_tower(
    checkpoint: dict[str, Any], cfg: Config, device: str = 'cpu'
) -> dict[str, Any]:
    """Turn a trained ``ContrastiveClassifier`` into an image classifier.

    Returns:
        dict: A checkpoint with ``backbone.*``, ``head.fc.*`` (the class
        embeddings by the trained text tower) and, in ``meta``, the
        description of the classifier and the class names.

    Raises:
        CheckpointError: If the config is for another model, or the weights do
            not fit.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    if cfg.model.type != 'mmclip.ContrastiveClassifier':
        raise CheckpointError(
            "The config's model must be a mmclip.ContrastiveClassifier; got "
            f'{cfg.model.type}.'
        )
    model = MODELS.build(cfg.model)
    load_trained(checkpoint, model)
    model.to(device).eval().update_head(progress=True)
    meta: dict[str, Any] = dict(dataset_meta=dict(classes=model.classes))
    pipeline = pipeline_of(cfg.get('test_dataloader'))
    if clip := describe_model(model, pipeline, model.classes):
        meta['clip'] = clip
    kept = {
        key: tensor.cpu()
        for key, tensor in model.state_dict().items()
        if key.startswith(('backbone.', 'head.'))
    }
    return dict(meta=meta, state_dict=kept)
