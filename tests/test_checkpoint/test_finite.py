"""Weights with NaN are used by nothing."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmclip.averaging.average import read_weights
from mmclip.averaging.weight_space import load_weights
from mmclip.checkpoint import CheckpointError, read_checkpoint
from mmclip.checkpoint.finite import check_finite
from mmclip.checkpoint.lora import merge_lora
from mmclip.checkpoint.towers.export import TARGETS, export_checkpoint
from tests.test_checkpoint.conftest import CLIP_BACKBONE
from tests.test_checkpoint.lora import lora_config, write_tower

KEY = 'backbone.layers.1.ln2.weight'


def init(path, kind):
    init_cfg = dict(type=kind, checkpoint=str(path))
    if kind == 'Pretrained':
        init_cfg['prefix'] = 'backbone.'
    init_default_scope('mmpretrain')
    MODELS.build(CLIP_BACKBONE | dict(init_cfg=init_cfg)).init_weights()


def merge(path):
    write_tower(path.with_name('base.pth'))
    model = lora_config(path.with_name('base.pth'))
    merge_lora(
        Config(dict(default_scope='mmpretrain', model=model)),
        read_checkpoint(path),
    )


def put_into_a_runner(path):
    model = nn.Module()
    model.backbone = MODELS.build(CLIP_BACKBONE)
    runner = SimpleNamespace(model=model)
    load_weights(runner, read_checkpoint(path)['state_dict'])


USES = {
    'PretrainedCLIP': lambda path: init(path, 'mmclip.PretrainedCLIP'),
    'Pretrained': lambda path: init(path, 'Pretrained'),
    'averaging': read_weights,
    'testing': put_into_a_runner,
    'merging': merge,
} | {
    f'exporting to {to}': lambda path, to=to: export_checkpoint(
        read_checkpoint(path), to
    )
    for to in TARGETS
}


@pytest.mark.parametrize('value', [float('nan'), float('-inf')])
@pytest.mark.parametrize('use', USES)
def test_they_are_refused_by_name(tmp_path, use, value):
    path = tmp_path / 'x.pth'
    write_tower(path)
    checkpoint = read_checkpoint(path)
    checkpoint['state_dict'][KEY][7] = value
    torch.save(checkpoint, path)
    wanted = rf'is refused: 1 of its tensors .* (backbone\.)?{KEY[9:]}\.'
    with pytest.raises(CheckpointError, match=wanted):
        USES[use](path)


def test_a_mask_may_be_infinite():
    """As those of attention are, which some models save."""
    model = nn.Linear(2, 2)
    model.register_buffer('mask', torch.full((2,), float('-inf')))
    check_finite(model.state_dict(), 'x', model)
    model.weight.data[0, 0] = float('-inf')
    with pytest.raises(CheckpointError, match=r': weight\.'):
        check_finite(model.state_dict(), 'x', model)


def test_numbers_of_any_kind_are_looked_at():
    kinds = (torch.int64, torch.bool, torch.float16, torch.float8_e5m2)
    check_finite({str(k): torch.ones(3, dtype=k) for k in kinds}, 'x')
    wrong = torch.tensor([1, complex('nan')])
    with pytest.raises(CheckpointError, match='x is refused'):
        check_finite(dict(wrong=wrong), 'x')


def test_whole_numbers_are_not_loaded_into_a_model_of_real_ones():
    model = nn.BatchNorm1d(2)
    weights = model.state_dict()
    check_finite(weights, 'it', model)  # the count of batches is one
    weights['weight'] = weights['weight'].long()
    with pytest.raises(CheckpointError, match='weight must be real numbers'):
        check_finite(weights, 'it', model)
