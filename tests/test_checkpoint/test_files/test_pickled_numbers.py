"""mmengine's message hubs are read, and their pickles reach nothing else."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OneCycleLR

from mmclip.checkpoint import CheckpointError, read_checkpoint


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


def test_they_can_be_saved_again(saved, tmp_path):
    torch.save(read_checkpoint(saved), tmp_path / 'again.pth')
    # Unsafe on purpose: what this test wrote, as mmengine would read it.
    again = torch.load(tmp_path / 'again.pth', weights_only=False)
    assert type(again['loss']) is HistoryBuffer


def test_a_message_hub_takes_them(saved):
    hub = MessageHub('taker')
    state = hub.state_dict() | dict(log_scalars=dict(loss=HistoryBuffer()))
    state['log_scalars']['loss'] = read_checkpoint(saved)['loss']
    hub.load_state_dict(state)
    assert hub.get_scalar('loss').current() == 0.25


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('memory', ['C', 'F'])
def test_any_byte_order_and_memory_order(tmp_path, order, memory):
    values = np.arange(6, dtype=f'{order}f4').reshape(2, 3)
    torch.save(dict(a=np.array(values, order=memory)), tmp_path / 'x.pth')
    found = read_checkpoint(tmp_path / 'x.pth')['a']
    assert (found == values).all()
    assert found.dtype == np.float32


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


# Pickles by hand: what no pickler writes.
def string(text: str) -> bytes:
    encoded = text.encode()
    return b'X' + struct.pack('<I', len(encoded)) + encoded


def number(value: int) -> bytes:
    return b'\x8a\x08' + struct.pack('<q', value)


def content(value: bytes) -> bytes:
    text = string(value.decode('latin1')) + string('latin1')
    return b'c_codecs\nencode\n(' + text + b'tR'


def dtype(kind: str, state: bytes = b'') -> bytes:
    return b'cnumpy\ndtype\n(' + string(kind) + b'\x89\x88tR' + state


def reach(owner: bytes, name: str) -> bytes:
    return b'cbuiltins\ngetattr\n(' + owner + string(name) + b'tR'


HISTORY = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
ONE_CYCLE = (
    b'cmmengine.optim.scheduler.param_scheduler\nOneCycleParamScheduler\n'
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
SCALAR = b'cnumpy._core.multiarray\nscalar\n('
EMPTY_ARRAY = (
    b'cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t'
    + content(b'b')
    + b'tR'
)


def array(shape: bytes, kind: bytes, values: bytes) -> bytes:
    state = b'(K\x01(' + shape + b't' + kind + b'\x89' + values + b'tb'
    return EMPTY_ARRAY + state


def versions(metadata: bytes) -> bytes:
    state = b'}' + string('_metadata') + metadata + b's'
    return b'ccollections\nOrderedDict\n)R' + state + b'b'


def craft(tmp_path, pickled: bytes):
    path = tmp_path / 'crafted.pth'
    with zipfile.ZipFile(path, 'w') as file:
        whole = b'\x80\x02}' + string('a') + pickled + b's.'
        file.writestr('x/data.pkl', whole)
        file.writestr('x/version', '3\n')
        file.writestr('x/byteorder', 'little')
    return path


def test_the_crafted_array_is_read(tmp_path):
    whole = array(b'K\x01', dtype('f8'), content(struct.pack('<d', 0.5)))
    assert read_checkpoint(craft(tmp_path, whole))['a'] == [0.5]


@pytest.mark.parametrize(
    'attack',
    [
        # The stand-in of getattr.
        reach(b'ctorch\nTensor\n', 'numpy'),
        reach(ONE_CYCLE, 'functions'),
        reach(ONE_CYCLE, '__init__'),
        reach(reach(ONE_CYCLE, '_annealing_cos'), '__globals__'),
        reach(b'cnumpy\nndarray\n', 'tofile'),
        reach(HISTORY, '__init__'),
        reach(HISTORY, '__class__'),
        reach(HISTORY, 'update'),
        reach(HISTORY, '__globals__'),
        reach(HISTORY + b')\x81', 'mean'),
        reach(reach(HISTORY, 'mean'), '__globals__'),
        reach(b'cbuiltins\ngetattr\n', '__globals__'),
        reach(b'cbuiltins\nset\n', 'mro'),
        # Objects of Python as elements; numbers that are pointers.
        dtype('O8'),
        dtype('V8'),
        SCALAR + dtype('O8') + content(b'A' * 8) + b'tR',
        SCALAR + dtype('f8') + content(b'A' * 4) + b'tR',
        SCALAR + b'ctorch\nfloat32\n' + content(b'A' * 4) + b'tR',
        b'cnumpy\nndarray\n((K\x01t' + dtype('f8', FLAGS % 0x3F) + b'tR',
        array(b'K\x01', b'ctorch\nfloat32\n', content(b'A' * 8)),
        # More than there is.
        array(number(2**40), dtype('f8'), content(b'A' * 8)),
        array(number(-1), dtype('f8'), content(b'A' * 8)),
        array(b'K\x02', dtype('f8'), b'](K\x01K\x02e'),
        b'cnumpy\nndarray\n((' + number(2**38) + b'ttR',
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
        b'cnumpy\nndarray\n',
        b'ctorch\nTensor\n',
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
        b'cbuiltins\nbytearray\n(' + number(2**40) + b'tR',
        b'c__builtin__\nbytearray\n(' + number(2**40) + b'tR',
    ],
)
def test_an_attack_is_refused(tmp_path, attack):
    with pytest.raises(CheckpointError, match=r'crafted\.pth is'):
        read_checkpoint(craft(tmp_path, attack))


def test_flags_and_fields_of_numbers_are_ignored(tmp_path):
    """With numpy's own, such arrays follow pointers out of the file."""
    for state in (FLAGS % 0x3F, FIELDS):
        kind = dtype('f8', state)
        whole = array(b'K\x01', kind, content(struct.pack('<d', 0.5)))
        found = read_checkpoint(craft(tmp_path, whole))['a']
        assert found.dtype == np.dtype('f8')
        assert not found.dtype.hasobject
        assert found.dtype.fields is None


def test_histories_bring_no_methods(tmp_path):
    """mmengine's own would be changed for all histories of the process."""
    numbers = array(b'K\x01', dtype('f8'), content(struct.pack('<d', 0.5)))
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
        + b'cbuiltins\nset\nsu'
    )
    found = read_checkpoint(craft(tmp_path, HISTORY + b')\x81' + state + b'b'))
    assert found['a'].current() == 0.5
    assert HistoryBuffer([1.0], [1]).statistics('mean') == 1.0
