"""ViTDet's pyramid, written out."""

import pytest
import torch
import torch.nn.functional as F

from mmclip.models import SimpleFeaturePyramid
from mmclip.registry import MODELS


def norm(x, layer):
    mean = x.mean(1, keepdim=True)
    variance = x.var(1, correction=0, keepdim=True)
    x = (x - mean) / (variance + 1e-6).sqrt()
    return x * layer.weight[:, None, None] + layer.bias[:, None, None]


def smooth(x, layers):
    project, first, conv, second = layers
    x = norm(F.conv2d(x, project.weight), first)
    return norm(F.conv2d(x, conv.weight, padding=1), second)


def enlarge(x, layer):
    return F.conv_transpose2d(x, layer.weight, layer.bias, stride=2)


def test_levels_are_those_of_the_paper():
    torch.manual_seed(0)
    neck = MODELS.build(
        dict(
            type='mmclip.SimpleFeaturePyramid',
            in_channels=16,
            out_channels=8,
            num_outs=6,
        )
    )
    for param in neck.parameters():
        torch.nn.init.normal_(param, std=0.3)
    x = torch.randn(2, 16, 6, 10)
    with torch.no_grad():
        outs = neck((torch.zeros(1), (x, torch.zeros(2, 16))))
        quarter, half, whole, double = neck.levels
        y = F.gelu(norm(enlarge(x, quarter[0]), quarter[1]))
        wanted = [
            smooth(enlarge(y, quarter[3]), quarter[4:]),
            smooth(enlarge(x, half[0]), half[1:]),
            smooth(x, whole),
            smooth(F.max_pool2d(x, 2), double[1:]),
        ]
    wanted.append(wanted[-1][:, :, ::2, ::2])
    wanted.append(wanted[-1][:, :, ::2, ::2])
    sides = [tuple(out.shape[2:]) for out in outs]
    assert sides == [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]
    for got, level in zip(outs, wanted, strict=True):
        torch.testing.assert_close(got, level, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('kwargs', 'said'),
    [
        (dict(scales=[8, 4]), r'of 4, 2, 1 and 0.5, got \[8, 4\]'),
        (dict(scales=[]), r'got \[\]'),
        (dict(num_outs=3), 'num_outs=3 is less than the 4 scales'),
    ],
)
def test_wrong_arguments(kwargs, said):
    with pytest.raises(ValueError, match=said):
        SimpleFeaturePyramid(in_channels=16, **kwargs)
