"""``meta['clip']`` of models: what is known of their weights."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.runner import CheckpointLoader

from mmclip.checkpoint.loaded import find_backbone, loaded_clip, unwrapped
from mmclip.checkpoint.meta import (
    Clip,
    kind_of,
    make_clip,
    preprocess_differences,
)
from mmclip.datasets.preprocessing import read_pipeline

HEADS = ('head', 'decode_head', 'bbox_head', 'roi_head', 'cls_head')
CONVERSIONS = ('to_rgb', '_channel_conversion', 'channel_conversion')


def base_checkpoint(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """What a backbone's ``init_cfg`` loads; empty if that names no file.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it cannot be read.
    """
    path = (backbone.get('init_cfg') or {}).get('checkpoint')
    return (
        {} if path is None else CheckpointLoader.load_checkpoint(path, 'cpu')
    )


def describe_model(
    model: Any,
    pipeline: Sequence[Any] | None,
    classes: Sequence[str] | None,
) -> Clip | None:
    """Describe a model with one of our backbones, as it is.

    Args:
        model (nn.Module): Of any package, perhaps wrapped.
        pipeline (Sequence | None): The transforms of its test images.
        classes (Sequence[str] | None): Names in the order of the labels.

    Returns:
        dict | None: ``meta['clip']``; None if there is no such backbone.
    """
    backbone = find_backbone(model)
    if backbone is None:
        return None
    model = unwrapped(model)
    before = loaded_clip(backbone) or {}
    preprocess = preprocess_of(model, pipeline, backbone.img_size)
    return make_clip(
        dict(type=kind_of(backbone)) | backbone.architecture(),
        backbone.img_size,
        _same_digits(preprocess, before.get('preprocess')),
        before.get('source'),
        _head(model),
        [str(name) for name in classes] if classes else None,
        dict(torch='torch'),
    )


def preprocess_of(
    model: Any, pipeline: Sequence[Any] | None, img_size: Any
) -> dict[str, Any] | None:
    """How a model and its pipeline prepare images.

    Images are blue first, as OpenMMLab's loaders give them, until they are
    converted.

    Args:
        model (nn.Module): With ``data_preprocessor``.
        pipeline (Sequence | None): The transforms of its test images.
        img_size (int | tuple[int, int]): Of its backbone.

    Returns:
        dict | None: As in ``meta['clip']``; None if nothing normalises.
    """
    normaliser: Any = getattr(model, 'data_preprocessor', None)
    # mmdet's for several branches holds the one that normalises.
    normaliser = getattr(normaliser, 'data_preprocessor', normaliser)
    if getattr(normaliser, '_enable_normalize', hasattr(normaliser, 'mean')):
        mean = normaliser.mean.flatten().tolist()
        std = normaliser.std.flatten().tolist()
        is_rgb = any(getattr(normaliser, key, False) for key in CONVERSIONS)
    else:
        found = [
            transform
            for transform in pipeline or ()
            if isinstance(transform, dict)
            and str(transform.get('type')).rpartition('.')[2] == 'Normalize'
        ]
        if len(found) != 1:
            return None
        mean, std = list(found[0]['mean']), list(found[0]['std'])
        is_rgb = found[0].get('to_rgb', True)
    if len(mean) != 3 or len(std) != 3:
        return None
    order = slice(None) if is_rgb else slice(None, None, -1)
    preprocess = dict(
        # As many digits as float32 has.
        mean=[round(value / 255, 7) for value in mean[order]],
        std=[round(value / 255, 7) for value in std[order]],
        **read_pipeline(pipeline or (), img_size),
    )
    return preprocess if is_rgb else preprocess | dict(channels='BGR')


def pipeline_of(loader: Any) -> Sequence[Any] | None:
    """The transforms of a dataloader's config; None if it does not list them.

    Args:
        loader (Any): The config of a dataloader, or a dataloader.
    """
    dataset = loader.get('dataset') if isinstance(loader, dict) else None
    while isinstance(dataset, dict) and 'pipeline' not in dataset:
        inner = dataset.get('datasets') or [dataset.get('dataset')]
        dataset = inner[0]
    return dataset['pipeline'] if isinstance(dataset, dict) else None


def _same_digits(
    preprocess: dict[str, Any] | None, before: dict[str, Any] | None
) -> dict[str, Any] | None:
    """With the source's own numbers, where they are the same but rounded."""
    if preprocess is None or before is None:
        return preprocess
    colours = ('mean', 'std')
    unlike = preprocess_differences(before, preprocess, colours)
    same = {k: before[k] for k in colours if k in before} if not unlike else {}
    return preprocess | same


def _head(model: Any) -> dict[str, Any] | None:
    for name in HEADS:
        head = getattr(model, name, None)
        if head is None:
            continue
        cls = type(head)
        described: dict[str, Any] = dict(
            type=f'{cls.__module__.split(".")[0]}.{cls.__name__}'
        )
        for key in ('num_classes', 'in_channels'):
            value = getattr(head, key, None)
            if type(value) is int and value > 0:
                described[key] = value
        return described
    return None
