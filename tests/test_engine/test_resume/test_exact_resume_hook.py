"""An interrupted epoch goes on as it was, or says what that needs."""

import pytest

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
    assert f"type='mmclip.{wanted}'" in ''.join(capfd.readouterr())
