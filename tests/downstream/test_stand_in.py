"""The stand-in for mmcv's operators does what mmcv's own do."""

import numpy as np
import pytest
import torch
from mmcv import _ext
from mmcv.ops import batched_nms, nms, roi_align

# The inputs and results in mmcv's own tests: tests/test_ops/test_roi_align.py
# and test_nms.py of open-mmlab/mmcv 2.1.0.
INPUTS = [
    ([[[[1.0, 2.0], [3.0, 4.0]]]], [[0.0, 0.0, 0.0, 1.0, 1.0]]),
    (
        [[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 3.0], [2.0, 1.0]]]],
        [[0.0, 0.0, 0.0, 1.0, 1.0]],
    ),
]
OUTPUTS = [
    [[[[1.0, 1.25], [1.5, 1.75]]]],
    [[[[1.0, 1.25], [1.5, 1.75]], [[4.0, 3.75], [3.5, 3.25]]]],
]
GRADIENTS = [
    [[[[3.0625, 0.4375], [0.4375, 0.0625]]]],
    [[[[3.0625, 0.4375], [0.4375, 0.0625]]] * 2],
]


@pytest.mark.parametrize('case', range(2))
def test_regions_are_averaged_as_mmcv_does(case):
    image, rois = (torch.tensor(values) for values in INPUTS[case])
    image.requires_grad_()
    out = roi_align(image, rois, (2, 2), 1.0, 2, 'avg', True)
    out.backward(torch.ones_like(out))
    wanted = torch.tensor(OUTPUTS[case])
    torch.testing.assert_close(out, wanted)
    wanted = torch.tensor(GRADIENTS[case]).view_as(image)
    torch.testing.assert_close(image.grad, wanted)


def test_boxes_are_left_out_as_mmcv_does():
    boxes = np.array(
        [[6.0, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]],
        np.float32,
    )
    scores = np.array([0.6, 0.9, 0.7, 0.2], np.float32)
    found, kept = nms(boxes, scores, 0.3, 0)
    assert kept.tolist() == [1, 0, 3]
    assert found[:, 4].tolist() == pytest.approx([0.9, 0.6, 0.2])


def test_classes_do_not_leave_out_one_another():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 8]])
    labels = torch.tensor([0, 1, 1])
    scores = torch.tensor([0.5, 0.9, 0.8])
    cfg = dict(type='nms', iou_threshold=0.5)
    _, kept = batched_nms(boxes, scores, labels, cfg)
    assert kept.tolist() == [1, 0]


@pytest.mark.skipif(
    'stand-in' not in (_ext.__doc__ or ''), reason='mmcv has its operators'
)
def test_what_it_does_not_do_it_refuses():
    with pytest.raises(NotImplementedError, match='no operator deform_conv'):
        _ext.deform_conv_forward(torch.zeros(1))
    with pytest.raises(NotImplementedError, match='averages only'):
        roi_align(
            torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), 2, 1.0, 2, 'max', True
        )
    with pytest.raises(NotImplementedError, match='offset=0'):
        nms(torch.zeros(1, 4), torch.zeros(1), 0.5, 1)
