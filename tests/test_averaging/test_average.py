"""Averages of random weights, against the originals' formulas."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mmclip.averaging.average import (
    average,
    averaged_checkpoint,
    greedy_soup,
    interpolate,
)
from mmclip.checkpoint import CheckpointError


def make_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Linear(4, 2)
    )


def make_weights(seed: int) -> dict[str, torch.Tensor]:
    return make_model(seed).state_dict()


@pytest.mark.parametrize('alpha', [0.0, 0.1, 0.5, 0.7, 1.0])
def test_interpolation_is_the_formula_of_wise_ft(alpha):
    zero_shot, fine_tuned = make_weights(0), make_weights(1)
    between = interpolate(zero_shot, fine_tuned, alpha)
    assert between.keys() == zero_shot.keys()
    for key, tensor in between.items():
        # In numpy and float64, not with the code under test.
        first, second = zero_shot[key].numpy(), fine_tuned[key].numpy()
        wanted = (1 - alpha) * np.float64(first) + alpha * np.float64(second)
        np.testing.assert_allclose(tensor.numpy(), wanted, rtol=0, atol=1e-7)


def test_the_ends_are_the_models_themselves_bit_by_bit():
    zero_shot, fine_tuned = make_weights(0), make_weights(1)
    for alpha, end in ((0, zero_shot), (1, fine_tuned)):
        for key, tensor in interpolate(zero_shot, fine_tuned, alpha).items():
            assert torch.equal(tensor, end[key])


@pytest.mark.parametrize('alpha', [-0.1, 1.1, float('nan')])
def test_other_alphas_are_refused(alpha):
    with pytest.raises(ValueError, match='between 0 and 1'):
        interpolate(make_weights(0), make_weights(1), alpha)


def test_a_uniform_soup_is_torchs_averaged_model():
    models = [make_model(seed) for seed in range(4)]
    reference = AveragedModel(models[0])
    for model in models:
        reference.update_parameters(model)
    soup = average([model.state_dict() for model in models])
    for key, tensor in reference.module.state_dict().items():
        torch.testing.assert_close(soup[key], tensor)


def test_half_precision_is_kept_and_rounded_once():
    small, large = torch.tensor([1 / 1024]), torch.tensor([2.0])
    values = [dict(x=x.half()) for x in (large, small, small, small, small)]
    soup = average(values)['x']
    # Added up in float16, each of the small ones would be lost.
    assert soup.dtype == torch.float16
    assert soup.item() == torch.tensor((2 + 4 / 1024) / 5).half().item()


def test_a_soup_of_two_precisions_has_the_better_one():
    half, single = dict(x=torch.ones(1).half()), dict(x=torch.zeros(1))
    assert average([half, single])['x'].dtype == torch.float32


def test_inputs_are_not_changed():
    weights = [make_weights(seed) for seed in range(3)]
    average(weights)
    interpolate(weights[0], weights[1], 0.3)
    for seed, state_dict in enumerate(weights):
        for key, tensor in make_weights(seed).items():
            assert torch.equal(state_dict[key], tensor)


def test_integers_must_be_equal():
    with pytest.raises(CheckpointError, match='index'):
        average([dict(index=torch.tensor(k)) for k in (1, 2)])
    same = average([dict(index=torch.tensor(3))] * 2)
    assert same['index'].item() == 3
    assert same['index'].dtype == torch.int64


def test_batchnorms_count_of_batches_is_that_of_the_last():
    weights = [{'bn.num_batches_tracked': torch.tensor(k)} for k in (5, 7)]
    assert interpolate(*weights, 0.5)['bn.num_batches_tracked'].item() == 7


def test_all_keys_and_shapes_that_differ_are_named():
    first, second = make_weights(0), make_weights(1)
    second['2.weight'] = torch.zeros(3, 4)
    second['extra'] = torch.zeros(1)
    del second['0.bias']
    with pytest.raises(CheckpointError) as error:
        interpolate(first, second, 0.5)
    for line in (
        'shape: 2.weight is (3, 4), wanted (2, 4)',
        'unexpected: extra (1,)',
        'missing: 0.bias',
    ):
        assert line in str(error.value)


def test_nothing_to_average():
    with pytest.raises(ValueError, match='no weights'):
        average([])
    with pytest.raises(ValueError, match='no weights'):
        greedy_soup({}, lambda weights: 0.0)


def closeness(target: float):
    """A score that is best where the one weight has a certain value."""
    return lambda weights: -abs(weights['x'].item() - target)


def one_weight(**values: float) -> dict[str, dict[str, torch.Tensor]]:
    return {k: dict(x=torch.tensor([v])) for k, v in values.items()}


def test_a_greedy_soup_keeps_what_makes_it_better():
    weights = one_weight(far=9.0, low=1.0, high=2.5)
    soup, trials = greedy_soup(weights, closeness(2.0))
    # high alone is 0.5 off, with low 0.25 off, with far too 2.2 off.
    assert [(t.name, t.kept) for t in trials] == [
        ('high', True),
        ('low', True),
        ('far', False),
    ]
    assert soup['x'].item() == 1.75
    assert trials[1].before == trials[0].alone == -0.5
    assert trials[1].together == trials[2].before == -0.25


def test_a_greedy_soup_keeps_what_does_not_make_it_worse():
    soup, trials = greedy_soup(one_weight(a=1.0, b=1.0), closeness(3.0))
    assert [trial.kept for trial in trials] == [True, True]
    assert soup['x'].item() == 1.0


def test_an_average_says_what_it_is_made_of():
    backbone = dict(
        type='mmclip.CLIPVisionTransformer', arch='base', act='quick_gelu'
    )
    clip = dict(backbone=backbone, img_size=32, colour='red')
    one = dict(meta=dict(clip=clip, dataset_meta=1))
    other = dict(meta=dict(dataset_meta=2, epoch=3))
    weights = dict(x=torch.zeros(1))
    checkpoint = averaged_checkpoint(
        weights, dict(one=one, other=other), dict(one=0.25, other=0.75)
    )
    meta = checkpoint['meta']
    assert meta['averaged'] == dict(one=0.25, other=0.75)
    assert meta['clip'] == dict(
        backbone=backbone, img_size=32, preprocess=None
    )
    assert meta['dataset_meta'] == 2
    assert 'epoch' not in meta
    assert checkpoint['state_dict'] is weights
