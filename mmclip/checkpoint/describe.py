"""Descriptions of models with one of our backbones, and of their weights."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from mmclip.checkpoint.finite import check_finite
from mmclip.checkpoint.meta import (
    PARTS,
    PREPROCESS,
    TOWER,
    UNSAID,
    Clip,
    differences,
    facts,
    make_clip,
    read_clip,
)
from mmclip.checkpoint.state_dict import weights_of
from mmclip.checkpoint.towers.tower import BACKBONES
from mmclip.datasets.preprocessing import read_pipeline
from mmclip.errors import CheckpointError, some_misfits

HEAD = PARTS['head']
HEADS = ('head', 'decode_head', 'bbox_head', 'roi_head', 'cls_head')
CONVERSIONS = ('to_rgb', '_channel_conversion', 'channel_conversion')
_NOTE = '_loaded_clip'


def describe_model(
    model: Any,
    pipeline: Sequence[Any] | None,
    classes: Sequence[str] | None,
) -> Clip | None:
    """Describe a model with one of our backbones in its current state.

    Returns:
        dict | None: ``meta['clip']``; None if there is no such backbone.
    """
    backbone = find_backbone(model)
    if backbone is None:
        return None
    before = backbone.__dict__.get(_NOTE) or {}
    preprocess = preprocess_of(unwrapped(model), pipeline, backbone.img_size)
    return make_clip(
        **_as_it_is(model, backbone),
        preprocess=_same_digits(preprocess, before.get('preprocess')),
        source=before.get('source'),
        classes=classes or None,
    )


def compare_with_model(
    checkpoint: Mapping[str, Any],
    model: nn.Module,
    where: str,
    names: Iterable[str] = TOWER,
) -> Clip | None:
    """Refuse weights of another model; log if they lack a description.

    The backbone keeps the description, for :func:`unlike_images`.

    Returns:
        dict | None: The checkpoint's description of itself; None if it has
        none, or the model has no backbone of ours.

    Raises:
        CheckpointError: If anything differs; lists all of it.
    """
    clip, backbone = read_clip(checkpoint, where), find_backbone(model)
    if backbone is None:
        return None
    if clip is None:
        print_log(f'{where} {UNSAID}', logger='current')
    elif unlike := unlike_model(clip, model, names):
        raise CheckpointError(
            f'{where} is from another model: {"; ".join(unlike)}. Change the '
            'config to match the checkpoint, or use other weights.'
        )
    backbone.__dict__[_NOTE] = clip
    return clip


def load_trained(checkpoint: Mapping[str, Any], model: nn.Module) -> None:
    """Load a checkpoint of a model's training, completely or not at all.

    Raises:
        CheckpointError: If it does not fit, or was trained on other base
            weights.
    """
    what = 'The checkpoint'
    state_dict = weights_of(checkpoint, what)
    check_finite(state_dict, what, model)
    compare_with_model(checkpoint, model, what)
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        raise CheckpointError(
            f'{what} does not fit the config: {some_misfits(error)}'
        ) from None


def unlike_model(
    clip: Clip, model: nn.Module, names: Iterable[str]
) -> list[str]:
    """List how a model differs from the one that weights describe."""
    return differences(clip, _as_it_is(model, find_backbone(model)), names)


def unlike_images(
    model: nn.Module,
    pipeline: Sequence[Any] | None,
    names: Iterable[str] = PREPROCESS,
) -> list[str]:
    """List how the preprocessing differs from what a model's weights need.

    Returns:
        list[str]: The differences; none if the weights do not describe their
        preprocessing.
    """
    backbone = find_backbone(model)
    clip = getattr(backbone, '__dict__', {}).get(_NOTE)
    if clip is None:
        return []
    here = preprocess_of(unwrapped(model), pipeline, backbone.img_size)
    return differences(clip, dict(preprocess=here), names)


def unwrapped(model: Any) -> Any:
    """Return a model without wrappers for parallelism or averaged views."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def find_backbone(model: nn.Module) -> Any:
    """Return the backbone of ours in a model, None if there is none.

    It may be the model itself, or be wrapped by LoRA. If there are several,
    the one that the model calls ``backbone`` is returned; without such a one,
    several that differ (a teacher and a student) count as none.
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
        facts(_as_it_is(other, other)) == facts(_as_it_is(first, first))
        for other in others
    )
    return first if alike else None


def kind_of(module: Any) -> str | None:
    """Return the ``type`` of a backbone of ours, None for other modules.

    A subclass has the ``type`` of the backbone that it derives from.
    """
    for cls in type(module).__mro__:
        name = f'mmclip.{cls.__name__}'
        if name in BACKBONES and cls.__module__.startswith('mmclip.'):
            return name
    return None


def preprocess_of(
    model: Any, pipeline: Sequence[Any] | None, img_size: Any
) -> dict[str, Any] | None:
    """Describe how a model and its pipeline prepare images.

    OpenMMLab's loaders give images in BGR order, until they are converted.

    Returns:
        dict | None: As in ``meta['clip']``; None if nothing normalises.
    """
    normaliser: Any = getattr(model, 'data_preprocessor', None)
    # mmdet's multi-branch preprocessor wraps the one that normalises.
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
        # The precision of float32.
        mean=[round(value / 255, 7) for value in mean[order]],
        std=[round(value / 255, 7) for value in std[order]],
        **read_pipeline(pipeline or (), img_size),
    )
    return preprocess if is_rgb else preprocess | dict(channels='BGR')


def pipeline_of(loader: Any) -> Sequence[Any] | None:
    """Return the transforms in a dataloader's config, None if not listed."""
    dataset = loader.get('dataset') if isinstance(loader, dict) else None
    while isinstance(dataset, dict) and 'pipeline' not in dataset:
        inner = dataset.get('datasets') or [dataset.get('dataset')]
        dataset = inner[0]
    return dataset['pipeline'] if isinstance(dataset, dict) else None


def _same_digits(
    preprocess: dict[str, Any] | None, before: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Use the source's own numbers where ours differ only by rounding."""
    if preprocess is None or before is None:
        return preprocess
    colours = ('mean', 'std')
    unlike = differences(
        dict(preprocess=before), dict(preprocess=preprocess), colours
    )
    same = {k: before[k] for k in colours if k in before} if not unlike else {}
    return preprocess | same


def _as_it_is(model: Any, backbone: Any) -> Clip:
    return dict(
        backbone=dict(type=kind_of(backbone)) | backbone.architecture(),
        img_size=backbone.img_size,
        head=_head(unwrapped(model)),
    )


def _head(model: Any) -> dict[str, Any] | None:
    for name in HEADS:
        head = getattr(model, name, None)
        if head is None:
            continue
        cls = type(head)
        described: dict[str, Any] = dict(
            type=f'{cls.__module__.split(".")[0]}.{cls.__name__}'
        )
        for key, (is_right, _) in HEAD.items():
            value = getattr(head, key, None)
            if key != 'type' and is_right(value):
                described[key] = value
        return described
    return None
