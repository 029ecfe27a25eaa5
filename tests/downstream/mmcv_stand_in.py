"""A stand-in for mmcv's compiled operators: two of them, by torchvision.

install_mmcv.py copies it to ``mmcv/_ext.py`` beside mmcv-lite, which
has no operators, so that mmsegmentation, mmdetection and mmpose can be
imported and tested without a compiler. It is for tests only, and it is not
fast. ``make test-downstream MMCV=full`` builds the real ones instead.
"""

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor

__all__ = ['nms', 'roi_align_backward', 'roi_align_forward']


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int
) -> Tensor:
    """Return the indices of the boxes to keep, the best first.

    Args:
        boxes (Tensor): ``(N, 4)``, of corners x1, y1, x2, y2.
        scores (Tensor): ``(N,)``.
        iou_threshold (float): Boxes that overlap a better one more are left
            out.
        offset (int): 1 if the last pixel is part of a box; only 0 here.

    Raises:
        NotImplementedError: If the offset is 1.
    """
    if offset:
        raise NotImplementedError('The stand-in for mmcv has offset=0 only.')
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the averages of regions into ``output``, as mmcv does.

    Raises:
        NotImplementedError: If the mode is the maximum (0).
    """
    if pool_mode != 1:
        raise NotImplementedError('The stand-in for mmcv averages only.')
    output.copy_(
        torchvision.ops.roi_align(
            input,
            rois,
            (aligned_height, aligned_width),
            spatial_scale,
            sampling_ratio,
            aligned,
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of the input into ``grad_input``."""
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output,
            rois,
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def __getattr__(name: str) -> Callable[..., Any]:
    """Return, for any other operator, a function that refuses to run."""
    if name.startswith('__'):  # asked for by Python itself
        raise AttributeError(name)

    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError(
            f'The stand-in for mmcv has no operator {name}: build the real '
            'ones with make test-downstream MMCV=full.'
        )

    return refuse
