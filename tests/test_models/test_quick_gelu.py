"""QuickGELU is x * sigmoid(1.702 * x), and keeps one tensor for backward."""

import pytest
import torch
from torch import nn

from mmclip.models.vit import QuickGELU


def definition(x):
    return x * torch.sigmoid(1.702 * x)


def inputs(dtype=torch.float64):
    return torch.linspace(-20, 20, 401, dtype=dtype).requires_grad_()


@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    [(torch.float64, 1e-15), (torch.float32, 3e-7), (torch.bfloat16, 2e-2)],
)
def test_values_and_gradients_are_those_of_the_definition(dtype, tolerance):
    x, y = inputs(dtype), inputs(dtype)
    ours, wanted = QuickGELU()(x), definition(y)
    ours.sum().backward(), wanted.sum().backward()
    for got, tensor in ((ours, wanted), (x.grad, y.grad)):
        scale = tensor.abs().clamp(min=1)
        assert ((got - tensor).abs() / scale).max() <= tolerance
    assert (nn.GELU()(x) - wanted).abs().max() > tolerance


def test_derivatives_of_both_orders():
    x = inputs()[::10].detach().requires_grad_()
    assert torch.autograd.gradcheck(QuickGELU(), x)
    assert torch.autograd.gradgradcheck(QuickGELU(), x)


def kept(function):
    """How many values autograd keeps of an input of 401 that is computed."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage()._cdata] = tensor  # kept alive
        return tensor

    x = inputs() * 2
    storages.clear()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        output = function(x)
    assert output.requires_grad
    return sum(t.numel() for t in storages.values() if t.numel() > 1) / 401


def test_one_tensor_is_kept():
    assert kept(QuickGELU()) == 1
    assert kept(definition) == 2
