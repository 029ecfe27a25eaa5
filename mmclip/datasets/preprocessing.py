"""Config parts that prepare images as CLIP weights expect them.

A checkpoint's ``meta['clip']['preprocess']`` has the settings: ``mean`` and
``std`` of pixels in 0..1, ``interpolation``, ``resize_mode`` and sometimes
``crop_pct``.
"""

import math
from collections.abc import Sequence
from typing import Any

from mmengine.utils import to_2tuple

from mmclip.errors import check_choice

INTERPOLATIONS = ('bicubic', 'bilinear')
RESIZE_MODES = ('shortest', 'squash')
RESIZES = ('RandomResizedCrop', 'Resize', 'ResizeEdge')
# mmpretrain's defaults of RandomResizedCrop.
CROPS, ASPECTS = (0.08, 1.0), (3 / 4, 4 / 3)
# What the names of transforms begin with that do not move pixels.
SAME_PIXELS = ('Load', 'Pack', 'Normalize')


def test_pipeline(
    preprocess: dict[str, Any], img_size: int | tuple[int, int]
) -> list[dict[str, Any]]:
    """Return mmpretrain transforms that match open_clip's at test time.

    For RGB and 8-bit grey images, pixels equal those of ``image_transform``
    in ``open_clip/transform.py`` bit for bit: Pillow decodes and resizes, and
    EXIF orientation is ignored. Other images (palette, transparency, CMYK)
    become RGB before they are resized, as in torchvision's ``ImageFolder``;
    open_clip resizes them first. mmpretrain's inferencers decode images with
    OpenCV.

    Args:
        preprocess (dict): From the metadata.
        img_size (int | tuple[int, int]): Height and width in pixels.

    Returns:
        list[dict]: For the ``pipeline`` of a test data set.

    Raises:
        ValueError: If something in it is not supported.
    """
    interpolation = preprocess['interpolation']
    check_choice('interpolation', interpolation, INTERPOLATIONS)
    check_choice('resize_mode', preprocess['resize_mode'], RESIZE_MODES)
    height, width = to_2tuple(img_size)
    method = dict(backend='pillow', interpolation=interpolation)
    # For timm's weights: the fraction of the resized image to keep.
    crop_pct = preprocess.get('crop_pct', 1.0)
    large = [math.floor(side / crop_pct) for side in (width, height)]
    if preprocess['resize_mode'] == 'squash':
        resize = [dict(type='Resize', scale=tuple(large), **method)]
    elif height != width:
        raise ValueError(
            "resize_mode 'shortest' needs square images; got img_size "
            f'{img_size}.'
        )
    else:
        resize = [dict(type='ResizeEdge', scale=large[0], **method)]
    crop = dict(type='CenterCrop', crop_size=(width, height))
    needs_crop = preprocess['resize_mode'] == 'shortest' or crop_pct != 1.0
    return [
        dict(type='LoadImageFromFile', _scope_='mmclip'),
        *resize,
        *([crop] if needs_crop else []),
        dict(type='PackInputs'),
    ]


def faster(pipeline: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a pipeline that resizes by torch, and reduces large JPEGs.

    Pixels are nearly the same; see :mod:`mmclip.datasets.transforms.resize`.
    JPEGs that are several times as large as needed are decoded at 1/2, 1/4 or
    1/8 of their size: for testing, with at least twice the pixels to which
    they are resized; for training, with as many as the smallest random crop
    needs.

    Args:
        pipeline (Sequence[dict]): The config of one with mmclip's loader.
    """
    steps = [dict(step) for step in pipeline]
    for step in steps:
        if _name(step) in RESIZES:
            step.pop('backend', None)
            step['type'] = f'mmclip.{_name(step)}'
            for load in steps:
                if _name(load).startswith('Load'):
                    load['reduce_to'] = _needed(step)
    return steps


def _needed(resize: dict[str, Any]) -> int:
    """Return the pixels that the shorter side of a photo needs."""
    largest = max(to_2tuple(resize['scale']))
    if _name(resize) != 'RandomResizedCrop':
        return 2 * largest
    area = resize.get('crop_ratio_range', CROPS)[0]
    aspect = resize.get('aspect_ratio_range', ASPECTS)[0]
    return math.ceil(largest / math.sqrt(area * aspect))


def read_pipeline(
    pipeline: Sequence[Any], img_size: int | tuple[int, int]
) -> dict[str, Any]:
    """Read how a pipeline resizes: the inverse of :func:`test_pipeline`.

    Args:
        pipeline (Sequence): The transforms of a test data set.
        img_size (int | tuple[int, int]): Height and width in pixels.

    Returns:
        dict: ``interpolation``, ``resize_mode`` and, if images are resized to
        more than the crop, ``crop_pct``; empty if these cannot describe it,
        for example because OpenCV resizes, which does not antialias.
    """
    steps = [
        step
        for step in pipeline
        if not (isinstance(step, dict) and _name(step).startswith(SAME_PIXELS))
    ]
    if not all(isinstance(step, dict) for step in steps):
        return {}
    names = [_name(step) for step in steps]
    height, width = to_2tuple(img_size)
    if names not in (
        ['Resize'],
        ['Resize', 'CenterCrop'],
        ['ResizeEdge', 'CenterCrop'],
    ):
        return {}
    resize, crop = steps[0], steps[-1]
    squashes = names[0] == 'Resize'
    scale = _two(resize.get('scale'))
    cropped = _two(crop.get('crop_size')) if names[1:] else scale
    interpolation = resize.get('interpolation', 'bilinear')
    antialiases = (
        resize.get('backend') == 'pillow'
        or resize['type'] == f'mmclip.{names[0]}'
    )
    if (
        not antialiases
        or interpolation not in INTERPOLATIONS
        or resize.get('keep_ratio')
        or resize.get('edge', 'short') != 'short'
        or cropped != (width, height)
        or scale is None
        or any(a < b for a, b in zip(scale, cropped, strict=True))
        or (width != height and not squashes)
    ):
        return {}
    said = dict(
        interpolation=interpolation,
        resize_mode='squash' if squashes else 'shortest',
    )
    if scale == cropped:
        return said
    for digits in range(2, 8):  # the shortest number that gives this scale
        share = round(cropped[0] / scale[0], digits)
        if share and all(
            math.floor(side / share) == large
            for side, large in zip(cropped, scale, strict=True)
        ):
            return said | dict(crop_pct=share)
    return {}


def _name(transform: dict[str, Any]) -> str:
    return str(transform.get('type')).rpartition('.')[2]


def _two(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    return tuple(size) if size is not None and len(size) == 2 else None


def data_preprocessor(preprocess: dict[str, Any]) -> dict[str, Any]:
    """Return the config that normalises a batch of BGR pixels in 0..255."""
    return dict(
        mean=[255.0 * value for value in preprocess['mean']],
        std=[255.0 * value for value in preprocess['std']],
        to_rgb=True,
    )
