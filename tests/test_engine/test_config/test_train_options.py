"""What options of tools/train.py change in a config."""

import pytest
import torch
from mmengine.config import Config, ConfigDict

from mmclip.engine.config.train_options import (
    use_mixed_precision,
    use_new_schedule,
)

BFLOAT16 = dict(type='mmclip.BFloat16OptimWrapper')


@pytest.mark.parametrize(
    ('on_gpu', 'given', 'wanted'),
    [
        (True, dict(), dict(type='AmpOptimWrapper', loss_scale='dynamic')),
        (
            True,
            dict(type='AmpOptimWrapper', dtype='float16', loss_scale=512.0),
            dict(type='AmpOptimWrapper', dtype='float16', loss_scale=512.0),
        ),
        # Of bfloat16 nothing needs scaling.
        (
            True,
            dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=512.0),
            BFLOAT16,
        ),
        (True, BFLOAT16, BFLOAT16),
        (False, dict(type='OptimWrapper'), BFLOAT16),
        (
            False,
            dict(type='AmpOptimWrapper', dtype='float16', loss_scale=512.0),
            BFLOAT16,
        ),
    ],
)
def test_amp_keeps_of_the_config_what_has_a_meaning(
    monkeypatch, on_gpu, given, wanted
):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: on_gpu)
    common = dict(accumulative_counts=2, optimizer=dict(type='AdamW'))
    wrapper = ConfigDict(**given, **common)
    use_mixed_precision(wrapper)
    assert wrapper == ConfigDict(**wanted, **common)


def test_amp_refuses_an_optimizer_wrapper_that_it_does_not_know():
    with pytest.raises(ValueError, match="is 'DeepSpeedOptimWrapper': leave"):
        use_mixed_precision(ConfigDict(type='DeepSpeedOptimWrapper'))


EXACT_RESUME = dict(type='mmclip.ExactResumeHook')


@pytest.mark.parametrize(
    'hooks',
    [
        dict(default_hooks=dict(logger=None, any_name=EXACT_RESUME)),
        dict(custom_hooks=[dict(type='EMAHook'), EXACT_RESUME]),
        dict(),  # of another package
    ],
)
def test_the_hook_that_compares_hears_of_a_new_schedule(hooks):
    cfg = Config(hooks)
    use_new_schedule(cfg)
    default = cfg.get('default_hooks', {}).values()
    assert [
        hook.get('new_schedule')
        for hook in [*default, *cfg.get('custom_hooks', [])]
        if hook and hook['type'] == EXACT_RESUME['type']
    ] == [True]
