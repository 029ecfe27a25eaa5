"""An interrupted epoch goes on as it was, or says what that needs."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch.optim import AdamW

from tests.test_engine.conftest import Linear, ScaledOptimWrapper
from tests.test_engine.schedule_runs import train


@pytest.mark.parametrize('way', ['epochs', 'iterations'])
def test_the_order_goes_on_where_no_seed_is_set(tmp_path, way):
    settings = dict(seed=None, images=20, schedule=[], epochs=1)
    if way == 'iterations':
        settings['sampler'] = 'mmclip.ResumableInfiniteSampler'
        settings['iters'] = 10
    whole = train(tmp_path, by_epoch=False, **settings).samples
    again = train(tmp_path, resume='work/iter_4.pth', **settings).samples
    assert again == {i: whole[i] for i in range(4, 10)}


@pytest.mark.parametrize(
    ('iters', 'wanted'),
    [(None, 'ResumableSampler'), (3, 'ResumableInfiniteSampler')],
)
def test_the_sampler_that_is_missing_is_named(tmp_path, capfd, iters, wanted):
    train(
        tmp_path, iters=iters, epochs=1, schedule=[], sampler='DefaultSampler'
    )
    assert f"type is not 'mmclip.{wanted}'" in ''.join(capfd.readouterr())


@pytest.mark.parametrize('scaled', [False, True])
def test_a_run_that_began_before_steps_were_fused_ends_the_same(
    tmp_path, scaled
):
    def weights(**settings):
        fused = settings.pop('fused')
        torch.manual_seed(0)
        model = Linear()
        optimizer = AdamW(model.parameters(), lr=0.01, fused=fused)
        wrap = ScaledOptimWrapper if scaled else OptimWrapper
        train(
            tmp_path,
            model=lambda: model,
            wrapper=wrap(optimizer),
            finite_loss=dict(type='mmclip.FiniteLossHook'),
            **settings,
        )
        assert {g['fused'] for g in optimizer.param_groups} == {None}
        return torch.cat([p.flatten() for p in model.parameters()])

    whole = weights(fused=None)
    again = weights(fused=True, resume='work/epoch_2.pth')
    assert torch.equal(again, whole)
