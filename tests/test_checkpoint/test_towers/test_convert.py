"""The conversion core: every key accounted for."""

import pytest
import torch

from mmclip.checkpoint import CheckpointError
from mmclip.checkpoint.towers.convert import check_complete, convert
from mmclip.checkpoint.towers.dialects import (
    MMPRETRAIN,
    OPEN_CLIP,
    OPEN_CLIP_TOWER,
    PLAIN_DIALECTS,
    TIMM_CLASSIFIER,
)


def test_every_key_of_a_whole_model_is_mapped_or_left_out(tiny_model):
    source = tiny_model.model.state_dict()
    conversion = convert(source, OPEN_CLIP)
    left_out = [key for keys in conversion.left_out.values() for key in keys]
    assert sorted([*conversion.mapped, *left_out]) == sorted(source)
    assert all(key.startswith('visual.') for key in conversion.mapped)
    assert set(conversion.left_out) == {'text tower', 'contrastive head'}


def test_unknown_keys_are_named(tiny_model):
    source = tiny_model.model.state_dict() | {
        'visual.transformer.resblocks.0.attn.in_proj_wieght': torch.zeros(1),
        'adapter.weight': torch.zeros(1),
    }
    with pytest.raises(CheckpointError, match='in_proj_wieght, adapter'):
        convert(source, OPEN_CLIP)


@pytest.mark.parametrize('dialect', [*PLAIN_DIALECTS, TIMM_CLASSIFIER])
def test_rules_are_one_to_one(dialect):
    theirs = [name for rule in dialect.rules for name in rule.their_names]
    assert len(set(theirs)) == len(theirs)
    ours = [name for rule in dialect.rules for name in rule.our_names]
    if dialect is not MMPRETRAIN:  # two of its heads are one of ours
        assert len(set(ours)) == len(ours)


@pytest.mark.parametrize('dtype', [torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers(tiny_model, dtype):
    source = tiny_model.model.state_dict()
    source['visual.proj'] = source['visual.proj'].to(dtype)
    with pytest.raises(CheckpointError, match=rf'but {dtype}: visual\.p'):
        convert(source, OPEN_CLIP)


def test_counters_of_batch_norms_stay_integers():
    counter = {'visual.bn1.num_batches_tracked': torch.tensor(3)}
    converted = convert(counter, OPEN_CLIP_TOWER).state_dict
    assert converted == {'tower.bn1.num_batches_tracked': torch.tensor(3)}


def test_check_complete_lists_every_difference_and_is_short():
    wanted = dict(a=torch.zeros(2), b=torch.zeros(3), c=torch.zeros(4))
    found = dict(a=torch.zeros(2), b=torch.zeros(5), d=torch.zeros(6))
    with pytest.raises(CheckpointError) as error:
        check_complete(found, wanted)
    message = str(error.value)
    assert 'missing: c' in message
    assert 'shape: b is (5,), wanted (3,)' in message
    assert 'unexpected: d (6,)' in message
    assert message.startswith('3 keys')
    with pytest.raises(CheckpointError, match=r'4 \(1,\) and 295 more\.$'):
        check_complete({str(i): torch.zeros(1) for i in range(300)}, {})
