"""NaN stops the run before it reaches the weights."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from torch.optim import SGD

from mmclip.checkpoint import read_checkpoint
from mmclip.engine import FiniteLossHook, NonFiniteLossError
from tests.test_engine.conftest import Linear

HOOK = dict(finite_loss=dict(type='mmclip.FiniteLossHook'))


def test_nan_stops_before_the_step_and_names_the_images(train, tmp_path):
    model = Linear(nan_at=6.0)
    with pytest.raises(NonFiniteLossError) as error:
        train(model=model, **HOOK)
    assert 'epoch 1, iteration 2' in str(error.value)
    assert '4.png, 5.png, 6.png, 7.png' in str(error.value)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_without_the_hook_the_weights_are_lost(train, tmp_path):
    train(model=Linear(nan_at=6.0))
    weights = read_checkpoint(tmp_path / 'work' / 'epoch_3.pth')['state_dict']
    assert weights['layer.weight'].isnan().all()


def test_a_good_run_is_the_same_with_and_without(train):
    one, other = train(**HOOK), train(work_dir='other')
    assert torch.equal(one.model.layer.weight, other.model.layer.weight)


class SquareRoot(Linear):
    """Finite losses whose gradients are not: the root of a weight of zero."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        outputs = super().forward(inputs, data_samples, 'tensor')
        return dict(loss=outputs.mean() + (0 * self.layer.weight).sqrt().sum())


def test_gradients_that_are_not_finite_stop_too(train, tmp_path):
    model = SquareRoot()
    with pytest.raises(NonFiniteLossError, match='Gradients are not finite'):
        train(model=model, **HOOK)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_nan_after_a_good_checkpoint_leaves_it(train, tmp_path):
    good = train(epochs=1).model.layer.weight
    hooks = [dict(type='PoisonSecondEpoch')]
    with pytest.raises(NonFiniteLossError, match='epoch 2, iteration 3'):
        train(resume=True, custom_hooks=hooks, **HOOK)
    (path,) = (tmp_path / 'work').glob('*.pth')
    assert path.name == 'epoch_1.pth'
    weights = read_checkpoint(path)['state_dict']
    assert torch.equal(weights['layer.weight'], good)


@HOOKS.register_module()
class PoisonSecondEpoch(Hook):
    """Its images are to blame."""

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            runner.model.nan_at = 0.0


def test_each_of_several_optimizers_is_guarded():
    model = Linear()
    wrapper = OptimWrapperDict(
        weight=OptimWrapper(SGD([model.layer.weight], lr=1)),
        bias=OptimWrapper(SGD([model.layer.bias], lr=1)),
    )
    runner = SimpleNamespace(optim_wrapper=wrapper, epoch=0, iter=6)
    hook = FiniteLossHook()
    hook.before_train(runner)
    hook.before_train_iter(runner, 0, {})
    for name, parameter in model.layer.named_parameters():
        before = parameter.clone()
        with pytest.raises(NonFiniteLossError, match='iteration 7'):
            wrapper[name].update_params(parameter.sum() * torch.inf)
        assert torch.equal(parameter, before)
        wrapper[name].update_params(parameter.sum())
        assert torch.equal(parameter, before - 1)
