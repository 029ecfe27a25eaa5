"""Gradients of a step that is not taken yet, and loss scalers."""

import pytest
import torch

from mmclip.checkpoint import read_checkpoint
from tests.test_engine.conftest import Linear, ScaledOptimWrapper

THREE = dict(epochs=3, accumulate=4)  # passes: two an epoch


def scaled(model, scale=1024.0):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    return ScaledOptimWrapper(optimizer, 4, init_scale=scale)


def run(train, is_scaled, **settings):
    torch.manual_seed(0)
    model = Linear()
    if is_scaled:
        settings['optim_wrapper'] = scaled(model)
    return train(model=model, **THREE | settings)


def test_a_scaler_goes_on_in_the_middle_of_a_step(train, tmp_path):
    whole = run(train, True)
    path = tmp_path / 'work' / 'epoch_1.pth'
    gathered = read_checkpoint(path)['accumulated_gradients']
    assert gathered['loss_scale'] == 1024
    model = Linear()
    resumed = train(
        model=model,
        optim_wrapper=scaled(model, 2.0),  # the checkpoint has the right one
        resume=True,
        load_from=str(path),
        work_dir='resumed',
        **THREE,
    )
    for ours, wanted in zip(
        resumed.model.parameters(), whole.model.parameters(), strict=True
    ):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize('before', [True, False])
def test_with_and_without_a_scaler_are_not_mixed(train, tmp_path, before):
    """Gradients would be a thousand times too large, or too small."""
    run(train, before)
    path = str(tmp_path / 'work' / 'epoch_1.pth')
    with pytest.raises(ValueError, match='the middle of a step with'):
        run(train, not before, resume=True, load_from=path)
