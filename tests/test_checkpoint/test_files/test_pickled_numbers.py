"""mmengine's message hubs are read, and their pickles reach nothing else."""

import pickle
import struct

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OneCycleLR

from mmclip.checkpoint import CheckpointError, read_checkpoint
from tests.test_checkpoint.test_files.pickles import (
    EMPTY_ARRAY,
    array,
    call,
    content,
    named,
    number,
    string,
    write,
)
from tests.test_checkpoint.test_files.pickles import dtype as dtype_of


class Numpy1Pickle:
    """A pickle module that writes numpy's names as numpy 1 did."""

    class Pickler(pickle._Pickler):
        def save_global(self, obj, name=None):
            module = getattr(obj, '__module__', None) or ''
            if module.startswith(('numpy._core', 'numpy.core')):
                old = module.replace('numpy._core', 'numpy.core')
                self.write(f'c{old}\n{obj.__name__}\n'.encode())
                self.memoize(obj)
            else:
                super().save_global(obj, name)

        dispatch = pickle._Pickler.dispatch | {
            type(pickle.dumps): save_global,
            type(pickle._dumps): save_global,
        }

    dumps = staticmethod(pickle.dumps)


@pytest.fixture(params=[pickle, Numpy1Pickle], ids=['numpy 2', 'numpy 1'])
def saved(request, tmp_path):
    """A checkpoint with what mmengine saves beside tensors."""
    path = tmp_path / 'x.pth'
    history = HistoryBuffer([0.5, 0.25], [1, 2], max_length=7)
    torch.save(
        dict(loss=history, lr=np.float64(0.125), grid=np.eye(2, 3)),
        path,
        pickle_module=request.param,
    )
    return path


def test_histories_and_numbers_are_as_they_were(saved):
    checkpoint = read_checkpoint(saved)
    history = checkpoint['loss']
    assert type(history) is HistoryBuffer
    assert [array.tolist() for array in history.data] == [[0.5, 0.25], [1, 2]]
    assert history.max_length == 7
    assert history.statistics('min') == 0.25
    history.update(1.0)
    assert history.current() == 1.0
    assert type(checkpoint['lr']) is np.float64
    assert checkpoint['lr'] == 0.125
    assert type(checkpoint['grid']) is np.ndarray
    assert (checkpoint['grid'] == np.eye(2, 3)).all()


@pytest.mark.parametrize('strategy', ['cos', 'linear'])
def test_one_cycle_schedules_go_on(tmp_path, strategy):
    before, after = one_cycle(strategy), one_cycle(strategy)
    before.step()
    torch.save(before.state_dict(), tmp_path / 'x.pth')
    after.load_state_dict(read_checkpoint(tmp_path / 'x.pth'))
    for _ in range(3):
        before.step()
        after.step()
        assert after.get_last_value() == before.get_last_value()


def one_cycle(strategy):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    return OneCycleLR(
        optimizer, eta_max=2.0, total_steps=9, anneal_strategy=strategy
    )


def test_they_can_be_saved_and_used_again(saved, tmp_path):
    found = read_checkpoint(saved)
    torch.save(found, tmp_path / 'again.pth')
    # Unsafe on purpose: what this test wrote, as mmengine would read it.
    again = torch.load(tmp_path / 'again.pth', weights_only=False)
    assert type(again['loss']) is HistoryBuffer
    hub = MessageHub('taker')
    state = hub.state_dict() | dict(log_scalars=dict(loss=found['loss']))
    hub.load_state_dict(state)
    assert hub.get_scalar('loss').current() == 0.25


def test_what_others_allow_is_not_allowed_here(tmp_path):
    """A library may have told torch that a function is safe."""

    class Payload:
        def __reduce__(self):
            return torch.save, ({}, str(tmp_path / 'witness'))

    torch.save(dict(a=Payload()), tmp_path / 'x.pth')
    with torch.serialization.safe_globals([torch.save]):
        before = torch.serialization.get_safe_globals()
        with pytest.raises(CheckpointError, match='save'):
            read_checkpoint(tmp_path / 'x.pth')
        assert set(torch.serialization.get_safe_globals()) == set(before)
        assert not (tmp_path / 'witness').exists()
        torch.load(tmp_path / 'x.pth')
        assert (tmp_path / 'witness').exists()


def dtype(kind: str, state: bytes = b'') -> bytes:
    return dtype_of(string(kind), state)


def reach(owner: bytes, name: str) -> bytes:
    return call('builtins.getattr', owner, string(name))


def versions(metadata: bytes) -> bytes:
    state = b'}' + string('_metadata') + metadata + b's'
    return call('collections.OrderedDict') + state + b'b'


HISTORY = named('mmengine.logging.history_buffer.HistoryBuffer')
ONE_CYCLE = named(
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'
)
# The state of a dtype: no fields, and the flags given.
FLAGS = b'(K\x03' + string('<') + b'NNNK\x08K\x08K%ctb'
FIELDS = (
    b'(K\x03'
    + string('<')
    + b'N('
    + string('a')
    + b't}'
    + string('a')
    + dtype('f8')
    + number(2**40)
    + b'\x86sK\x08K\x08K\x00tb'
)
SCALAR = 'numpy._core.multiarray.scalar'
NDARRAY, TENSOR = named('numpy.ndarray'), named('torch.Tensor')
FLOAT = named('torch.float32')
ONE = b'K\x01\x85'
HALF = content(struct.pack('<d', 0.5))


@pytest.mark.parametrize(
    'attack',
    [
        # The stand-in of getattr.
        reach(TENSOR, 'numpy'),
        reach(ONE_CYCLE, 'functions'),
        reach(ONE_CYCLE, '__init__'),
        reach(reach(ONE_CYCLE, '_annealing_cos'), '__globals__'),
        reach(NDARRAY, 'tofile'),
        reach(HISTORY, '__init__'),
        reach(HISTORY, '__class__'),
        reach(HISTORY, 'update'),
        reach(HISTORY, '__globals__'),
        reach(HISTORY + b')\x81', 'mean'),
        reach(reach(HISTORY, 'mean'), '__globals__'),
        reach(named('builtins.getattr'), '__globals__'),
        reach(named('builtins.set'), 'mro'),
        # Objects of Python as elements; numbers that are pointers.
        dtype('O8'),
        dtype('V8'),
        call(SCALAR, dtype('O8'), content(b'A' * 8)),
        call(SCALAR, dtype('f8'), content(b'A' * 4)),
        call(SCALAR, FLOAT, content(b'A' * 4)),
        call('numpy.ndarray', ONE, dtype('f8', FLAGS % 0x3F)),
        array(ONE, FLOAT, content(b'A' * 8)),
        # More than there is.
        array(number(2**40) + b'\x85', dtype('f8'), HALF),
        array(number(-1) + b'\x85', dtype('f8'), HALF),
        array(b'K\x02\x85', dtype('f8'), b'](K\x01K\x02e'),
        call('numpy.ndarray', number(2**38) + b'\x85'),
        EMPTY_ARRAY,
        # Histories of something else.
        HISTORY + b')\x81',
        HISTORY + b')\x81}b',
        HISTORY + b')R',
        # A schedule of something else.
        ONE_CYCLE + b')\x81',
        ONE_CYCLE + b')\x81}' + string('a') + EMPTY_ARRAY + b'sb',
        ONE_CYCLE + b')R',
        # Classes and types as values.
        ONE_CYCLE,
        HISTORY,
        NDARRAY,
        TENSOR,
        # Versions of modules that nobody can compare.
        versions(b'K\x03'),
        versions(b'}' + string('a') + b'K\x03s'),
        versions(b'}' + string('a') + b'}' + string('version') + b']ss'),
        versions(
            b'}'
            + string('a')
            + b'}'
            + string('image_size')
            + string('a')
            + b'ss'
        ),
        # Memory that the file does not hold.
        call('builtins.bytearray', number(2**40)),
        call('__builtin__.bytearray', number(2**40)),
    ],
)
def test_an_attack_is_refused(tmp_path, attack):
    with pytest.raises(CheckpointError, match=r'crafted\.pth is'):
        read_checkpoint(write(tmp_path / 'crafted.pth', attack))


@pytest.mark.parametrize('state', [b'', FLAGS % 0x3F, FIELDS])
def test_flags_and_fields_of_numbers_are_ignored(tmp_path, state):
    """With numpy's own, such arrays follow pointers out of the file."""
    whole = array(ONE, dtype('f8', state), HALF)
    found = read_checkpoint(write(tmp_path / 'x.pth', whole))['a']
    assert found == [0.5]
    assert found.dtype == np.dtype('f8')
    assert not found.dtype.hasobject
    assert found.dtype.fields is None


def test_histories_bring_no_methods(tmp_path):
    """mmengine's own would be changed for all histories of the process."""
    numbers = array(ONE, dtype('f8'), HALF)
    state = (
        b'}('
        + string('_log_history')
        + numbers
        + string('_count_history')
        + numbers
        + string('max_length')
        + b'K\x05'
        + string('statistics_methods')
        + b'}'
        + string('mean')
        + named('builtins.set')
        + b'su'
    )
    whole = HISTORY + b')\x81' + state + b'b'
    found = read_checkpoint(write(tmp_path / 'x.pth', whole))
    assert found['a'].current() == 0.5
    assert HistoryBuffer([1.0], [1]).statistics('mean') == 1.0
