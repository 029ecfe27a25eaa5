"""How images are prepared for CLIP weights, as parts of OpenMMLab configs.

What they mean stands in a checkpoint's ``meta['clip']['preprocess']``:
``mean`` and ``std`` of pixels in 0..1, ``interpolation``, ``resize_mode`` and
sometimes ``crop_pct``.
"""

import math
from collections.abc import Sequence
from typing import Any

from mmclip.errors import check_choice

INTERPOLATIONS = ('bicubic', 'bilinear')
RESIZE_MODES = ('shortest', 'squash')
# Beginnings of transforms that do not change where a pixel is.
SAME_PIXELS = ('Load', 'Pack', 'Normalize')


def test_pipeline(
    preprocess: dict[str, Any], img_size: int | tuple[int, int]
) -> list[dict[str, Any]]:
    """The transforms of mmpretrain that do what open_clip does at test time.

    Pixels are those of ``image_transform`` in ``open_clip/transform.py``, bit
    for bit, of images that are RGB or grey of 8 bits: images are decoded and
    resized by Pillow and not turned by their EXIF data. Others (palette,
    transparency, CMYK) open_clip resizes before it makes them RGB; here they
    are RGB first, as in torchvision's ``ImageFolder``. mmpretrain's
    inferencers decode images themselves, with OpenCV.

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
    height, width = (
        (img_size, img_size) if isinstance(img_size, int) else img_size
    )
    method = dict(backend='pillow', interpolation=interpolation)
    # Of timm's weights: the part of the resized image that is kept.
    crop_pct = preprocess.get('crop_pct', 1.0)
    large = [math.floor(side / crop_pct) for side in (width, height)]
    if preprocess['resize_mode'] == 'squash':
        resize = [dict(type='Resize', scale=tuple(large), **method)]
    elif height != width:
        raise ValueError(
            "resize_mode 'shortest' is for square images, got img_size "
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


def read_pipeline(
    pipeline: Sequence[Any], img_size: int | tuple[int, int]
) -> dict[str, Any]:
    """What a pipeline says of resizing: the reverse of :func:`test_pipeline`.

    Args:
        pipeline (Sequence): The transforms of a test data set.
        img_size (int | tuple[int, int]): Height and width in pixels.

    Returns:
        dict: ``interpolation``, ``resize_mode`` and, if images are resized to
        more than is cropped, ``crop_pct``; empty where it does not do what
        these words say, such as by OpenCV, which smooths differently.
    """
    steps = [
        step
        for step in pipeline
        if not (isinstance(step, dict) and _name(step).startswith(SAME_PIXELS))
    ]
    if not all(isinstance(step, dict) for step in steps):
        return {}
    names = [_name(step) for step in steps]
    height, width = (
        (img_size, img_size) if isinstance(img_size, int) else img_size
    )
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
    if (
        resize.get('backend') != 'pillow'
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
    for digits in range(2, 8):  # the shortest that gives this scale
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
    """What normalises a batch: of pixels in 0..255, which mm reads as BGR.

    Args:
        preprocess (dict): From the metadata.

    Returns:
        dict: For the ``data_preprocessor`` of a model of mmpretrain.
    """
    return dict(
        mean=[255.0 * value for value in preprocess['mean']],
        std=[255.0 * value for value in preprocess['std']],
        to_rgb=True,
    )
