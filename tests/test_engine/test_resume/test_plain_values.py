"""Whatever a run writes, torch's safe loader reads, without mmclip."""

import datetime
import enum
import fractions
import logging
from collections import deque
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from torchvision.tv_tensors import BoundingBoxes

from mmclip.checkpoint import CheckpointError, read_checkpoint
from mmclip.engine.resume.plain_values import make_plain, restore_histories
from tests.test_engine.conftest import Numbers


class Colour(enum.Enum):
    RED = np.uint8(3)


class Strange(Numbers):
    """With what configs and packages put into metainfo."""

    metainfo: ClassVar = dict(
        classes=('a', 'b'),
        palette=np.array([[255, 0, 7]], dtype=np.uint8),
        colour=np.uint8(200),
        nested=ConfigDict(a=ConfigDict(b=[ConfigDict(c=np.float32(0.5))])),
        names={'b', 'a'},
        folder=Path('data/x'),
        by_number={np.int64(1): np.bool_(True), Colour.RED: Colour.RED},
        day=datetime.date(2026, 1, 2),
        queue=deque([1, 2]),
        dtype=torch.float16,
        share=fractions.Fraction(1, 4),
        half=np.longdouble(0.5),
        boxes=BoundingBoxes([1, 2, 3, 4], format='XYXY', canvas_size=(9, 9)),
        loader=Numbers,
        inside=[1, len, np.str_('text')],
    )


PLAIN = dict(
    classes=('a', 'b'),
    palette=[[255, 0, 7]],
    colour=200,
    nested=dict(a=dict(b=[dict(c=0.5)])),
    names=['a', 'b'],
    folder='data/x',
    by_number={1: True, '3': 3},
    day='2026-01-02',
    queue=[1, 2],
    dtype='torch.float16',
    share=0.25,
    half=0.5,
    inside=[1, 'text'],
)


def with_strange_values(model, train_dataloader, **arguments):
    train_dataloader['dataset'] = Strange()
    runner = Runner(model, train_dataloader=train_dataloader, **arguments)
    runner.message_hub.update_info('note', np.float16(0.5))
    runner.message_hub.update_info('where', Path('x'))
    return runner


@pytest.mark.parametrize('scheduler', ['MultiStepLR', 'OneCycleLR'])
def test_torch_alone_reads_what_a_run_writes(
    train, tmp_path, scheduler, capfd
):
    more = dict(total_steps=9, eta_max=0.1)
    if scheduler == 'MultiStepLR':
        more = dict(milestones=[np.int64(1)])

    def make(*args, **kwargs):
        schedule = dict(type=scheduler, by_epoch=False, **more)
        return with_strange_values(*args, param_scheduler=schedule, **kwargs)

    train(1, make_runner=make)
    path = tmp_path / 'work' / 'epoch_1.pth'
    known = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        checkpoint = torch.load(path, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(known)
    metainfo = checkpoint['meta']['dataset_meta']
    assert torch.equal(metainfo.pop('boxes'), torch.tensor([[1, 2, 3, 4]]))
    assert metainfo == PLAIN
    info = read_checkpoint(path)['message_hub']['runtime_info']
    assert (info['note'], info['where']) == (0.5, 'x')
    runner = train(2, make_runner=make, resume=True)
    assert 'metainfo from the resumed' not in ''.join(capfd.readouterr())
    history = runner.message_hub.get_scalar('train/loss')
    assert isinstance(history, HistoryBuffer)
    assert len(history.data[0]) == 4
    assert history.data[0].dtype == np.float64


def test_what_is_left_out_is_named_once(caplog):
    def values():
        return dict(meta=dict(dataset_meta=Strange.metainfo))

    said = set()
    with caplog.at_level(logging.WARNING):
        make_plain(values(), said)
    assert said == {
        "meta['dataset_meta']['loader']",
        "meta['dataset_meta']['inside'][1]",
    }
    again = set(said)
    make_plain(values(), again)
    assert again == said


def test_containers_that_hold_themselves_or_nest_without_end():
    ring = [1]
    ring.append(ring)
    shared = [np.uint8(1)]
    for _ in range(60):
        shared = [shared, shared]
    deep = []
    for _ in range(10_000):
        deep = [deep]
    checkpoint = dict(ring=ring, shared=shared, deep=deep)
    make_plain(checkpoint, set())
    assert checkpoint['ring'] == [1]
    assert checkpoint['shared'][0] is checkpoint['shared'][1]


def test_weights_are_left_as_they_are():
    weights = torch.nn.Linear(2, 2).state_dict()
    checkpoint = dict(state_dict=weights, ema_state_dict=weights)
    make_plain(checkpoint, set())
    assert checkpoint['state_dict'] is weights
    assert checkpoint['ema_state_dict'] is weights


@pytest.mark.parametrize(
    'history',
    [
        dict(log_history=1, count_history=2, max_length=3),
        dict(
            log_history=torch.zeros(2),
            count_history=torch.zeros(3),
            max_length=3,
        ),
        dict(
            log_history=torch.zeros(2),
            count_history=torch.zeros(2),
            max_length='3',
        ),
    ],
)
def test_damaged_histories_are_refused(history):
    hub = dict(log_scalars=dict(loss=history))
    with pytest.raises(CheckpointError, match='the history of loss is'):
        restore_histories(dict(message_hub=hub), 'x.pth')
