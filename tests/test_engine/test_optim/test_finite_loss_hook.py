"""NaN stops the run before it reaches the weights."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import ConstantLR, OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from torch.optim import SGD, AdamW

from mmclip.checkpoint import read_checkpoint
from mmclip.engine import FiniteLossHook, NonFiniteLossError
from tests.test_engine.conftest import Linear, ScaledOptimWrapper

HOOK = dict(finite_loss=dict(type='mmclip.FiniteLossHook'))


class SquareRoot(Linear):
    """Finite losses whose gradients are not: the root of a weight of zero."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        outputs = super().forward(inputs, data_samples, 'tensor')
        return dict(loss=outputs.mean() + (0 * self.layer.weight).sqrt().sum())


class NotANumber(Linear):
    """Losses that are not finite, although their gradients are."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=super().forward(inputs).mean() + torch.nan)


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize(
    ('make', 'good', 'said'),
    [
        (
            lambda: Linear(nan_at=6.0),
            1,
            'epoch 1, iteration 2.*4.png, 5.png, 6.png, 7.png',
        ),
        (SquareRoot, 0, 'Gradients are not finite'),
        (NotANumber, 0, 'The loss is nan at epoch 1, iteration 1.*0.png'),
    ],
    ids=['loss and gradients', 'gradients', 'loss'],
)
def test_nan_stops_before_the_step(train, tmp_path, make, good, said, fused):
    """Of a loss, it names the images; a fused optimizer is not changed."""
    model = make()
    optimizer = AdamW(model.parameters(), fused=fused)
    with pytest.raises(NonFiniteLossError, match=f'(?s){said}'):
        train(model=model, optim_wrapper=OptimWrapper(optimizer), **HOOK)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    for state in optimizer.state.values():
        assert state['step'] == good
        assert state['exp_avg'].isfinite().all()
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_without_the_hook_the_weights_are_lost(train, tmp_path):
    train(model=Linear(nan_at=6.0))
    weights = read_checkpoint(tmp_path / 'work' / 'epoch_3.pth')['state_dict']
    assert weights['layer.weight'].isnan().all()


def test_a_good_run_is_the_same_with_and_without(train):
    one, other = train(**HOOK), train(work_dir='other')
    assert torch.equal(one.model.layer.weight, other.model.layer.weight)


def test_all_images_of_an_accumulated_step_are_named(train):
    """Those of the first of its four iterations are spoilt."""
    with pytest.raises(NonFiniteLossError) as error:
        train(
            epochs=4, accumulate=4, custom_hooks=[dict(type='Spoil')], **HOOK
        )
    message = str(error.value)
    assert 'iteration 8; the weights are those before it' in message
    for i in 5, 6, 7, 8:
        names = ('0.png, 1.png, 2.png, 3.png', '4.png, 5.png, 6.png, 7.png')
        assert f'{names[(i + 1) % 2]} (iteration {i})' in message
    assert '(iteration 4)' not in message


def test_one_bad_loss_of_a_step_names_its_own_images(train):
    with pytest.raises(NonFiniteLossError) as error:
        train(model=Linear(nan_at=6.0), accumulate=4, **HOOK)
    assert '0.png' not in str(error.value)


@HOOKS.register_module()
class Spoil(Hook):
    """Of the fifth iteration."""

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter == 4:
            runner.model.layer.weight.grad.fill_(torch.nan)


@pytest.mark.filterwarnings('error:Seems like')
def test_schedulers_find_the_step_again():
    """mmengine would warn that it was overridden."""
    model = Linear()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=1))
    scheduler = ConstantLR(wrapper, factor=0.5)
    runner = SimpleNamespace(optim_wrapper=wrapper, epoch=0, iter=0)
    FiniteLossHook().before_train(runner)
    wrapper.update_params(model.layer.weight.sum())
    scheduler.step()


def test_small_gradients_are_finite_whatever_their_sum():
    layer = torch.nn.Linear(512, 512, dtype=torch.float16)
    wrapper = OptimWrapper(SGD(layer.parameters(), lr=1))
    runner = SimpleNamespace(optim_wrapper=wrapper, epoch=0, iter=0)
    FiniteLossHook().before_train(runner)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    wrapper.step()


@pytest.mark.parametrize('model', [SquareRoot, Linear])
def test_a_loss_scaler_that_leaves_out_every_step_stops_too(train, model):
    """Or none after the first, for which a scale of 2**127 is too large."""
    model = model()
    optimizer = SGD(model.parameters(), lr=0.001)
    wrapper = ScaledOptimWrapper(optimizer, init_scale=2.0**127)
    before = model.layer.weight.clone()
    settings = dict(model=model, optim_wrapper=wrapper, epochs=20, **HOOK)
    if type(model) is Linear:
        train(**settings)
        assert not torch.equal(model.layer.weight, before)
        return
    with pytest.raises(NonFiniteLossError, match='iteration 33;'):
        train(**settings)
    assert torch.equal(model.layer.weight, before)


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
        wrapper[name].zero_grad()
        assert torch.equal(parameter, before)
        wrapper[name].update_params(parameter.sum())
        assert torch.equal(parameter, before - 1)
