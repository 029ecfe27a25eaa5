"""Files of some kilobytes that would take years, or terabytes, to read."""

import pickle
import struct
import zipfile

import pytest
import torch

from mmclip.checkpoint import (
    CheckpointError,
    open_weights,
    read_checkpoint,
    read_state_dict,
)
from tests.test_checkpoint.limits import outcomes
from tests.test_checkpoint.test_files.test_pickled_numbers import (
    content,
    number,
    string,
)

MANY = 60  # 2 ** 60 of anything is too much
TIMES = 1000  # a thousand of what has a megabyte, too


def put(i: int) -> bytes:
    return b'r' + struct.pack('<I', i)


def get(i: int) -> bytes:
    return b'j' + struct.pack('<I', i)


def call(name: str, *args: bytes) -> bytes:
    module, _, function = name.rpartition('.')
    return f'c{module}\n{function}\n('.encode() + b''.join(args) + b'tR'


def named(name: str) -> bytes:
    module, _, function = name.rpartition('.')
    return f'c{module}\n{function}\n'.encode()


def laughs(layer, times: int = MANY) -> bytes:
    """Containers, each of which holds the one before it twice."""
    whole = layer(string('ha'), string('ha')) + put(0)
    for i in range(times):
        whole += layer(get(i), get(i)) + put(i + 1)
    return b'](' + whole + b'e'


def listed(a: bytes, b: bytes) -> bytes:
    return b'](' + a + b + b'e'


def paired(a: bytes, b: bytes) -> bytes:
    return a + b + b'\x86'


def mapped(a: bytes, b: bytes) -> bytes:
    return b'}(' + string('a') + a + string('b') + b + b'u'


def ordered(a: bytes, b: bytes) -> bytes:
    new = call('collections.OrderedDict')
    return new + b'(' + string('a') + a + string('b') + b + b'u'


def as_metadata(a: bytes, b: bytes) -> bytes:
    state = b'}' + string('_metadata') + listed(a, b) + b's'
    return call('collections.OrderedDict') + state + b'b'


def tower(i: int = 0) -> bytes:
    """A tuple that takes 2 ** MANY steps to hash; its number is ``i``."""
    whole = paired(string('a'), string('b')) + put(i)
    for k in range(MANY):
        whole += paired(get(i + k), get(i + k)) + put(i + k + 1)
    return b'(' + whole + b't' + get(i + MANY) + b'\x86'


def as_key(value: bytes) -> bytes:
    return b'}' + value + b'K\x01s'


def storage(key=None, numel=None, place=None, kind=None) -> bytes:
    return (
        b'('
        + (kind or string('storage') + named('torch.FloatStorage'))
        + (key or string('0'))
        + (place or string('cpu'))
        + (numel or b'K\x01')
        + b'tQ'
    )


def tensor(of=None, offset=b'K\x00', size=b'K\x01\x85', stride=b'K\x01\x85'):
    hooks = call('collections.OrderedDict')
    return call(
        'torch._utils._rebuild_tensor_v2',
        (of or storage()) + offset + size + stride + b'\x89' + hooks,
    )


def array(shape: bytes, kind: bytes, values: bytes) -> bytes:
    return EMPTY + b'(K\x01' + shape + kind + b'\x89' + values + b'tb'


def dtype(kind: bytes) -> bytes:
    return call('numpy.dtype', kind, b'\x89\x88')


def many_times(first: bytes, again: bytes) -> bytes:
    """Something made once, number 0, and then used over and over."""
    return b'](' + first + put(0) + again * TIMES + b'e'


LONG = string('x' * 2**20)
NUMBERS = content(bytes(2**20))
SHAPE = number(2**17) + b'\x85'
EIGHT = dtype(string('f8'))
HISTORY = (
    named('mmengine.logging.history_buffer.HistoryBuffer')
    + b')\x81}('
    + string('_log_history')
    + get(0)
    + string('_count_history')
    + get(0)
    + string('max_length')
    + b'K\x05ub'
)
COLLISIONS = b''.join(
    b'\x8a\x0d' + (i * (2**61 - 1)).to_bytes(13, 'little') + b'N'
    for i in range(2**15)
)

# A view that claims 2 ** 40 values: whoever takes it apart makes as many.
ENDLESS = tensor(size=number(2**40) + b'\x85', stride=b'K\x00\x85')
EMPTY = call(
    'numpy._core.multiarray._reconstruct',
    named('numpy.ndarray') + b'K\x00\x85' + content(b'b'),
)
TAKEN_APART = {
    'a set': call('builtins.set', ENDLESS),
    'a size': call('torch.Size', ENDLESS),
    'a pair': call('collections.OrderedDict', b']' + ENDLESS + b'a'),
    'a reference': ENDLESS + b'Q',
    'a shape': array(ENDLESS, EIGHT, content(bytes(8))),
    'a shape of a tensor': tensor(size=ENDLESS, stride=ENDLESS),
    'a state of an array': EMPTY + ENDLESS + b'b',
    'a state of a type': EIGHT + ENDLESS + b'b',
    'arguments': call(
        'torch._tensor._rebuild_from_type_v2',
        named('torch._utils._rebuild_tensor_v2')
        + named('torch.Tensor')
        + ENDLESS
        + b'N',
    ),
}

BOMBS: dict[str, bytes] = {
    **{f'a tensor as {name}': value for name, value in TAKEN_APART.items()},
    'lists': laughs(listed),
    'dicts': laughs(mapped),
    'ordered dicts': laughs(ordered),
    'versions of modules': laughs(as_metadata),
    'texts': many_times(LONG, get(0) * 9),
    'a list in itself': b']' + put(0) + get(0) + b'a',
    'a dict in itself': b'}' + put(0) + string('a') + get(0) + b's',
    'depth': b']' * 10**4 + b'a' * (10**4 - 1),
    'a key': as_key(tower()),
    'a flat key of many': as_key(b'(' + b'K\x01' * 100 + b't'),
    'a member': call('builtins.set', b']' + tower() + b'a'),
    'a pair': call('collections.OrderedDict', b']' + tower() + b'K\x01\x86a'),
    'a count': call('collections.Counter', b']' + tower() + b'a'),
    'keys of one place': b'}(' + COLLISIONS + b'u',
    'a storage called by a tuple': tensor(storage(key=tower())),
    'a tuple of values': tensor(storage(numel=tower())),
    'a reference to a tuple': tensor(storage(kind=tower() + b'N')),
    'a tensor of tuples': tensor(size=tower(), stride=tower(1000)),
    'an array of tuples': array(tower(), EIGHT, content(bytes(8))),
    'a shape of texts': array(
        b'(' + string('abcd') + number(2**33) + b't', EIGHT, content(bytes(8))
    ),
    'a type of tuples': dtype(tower()),
    'a text that is not there': b'X' + struct.pack('<I', 2**31),
    'a wide type': call(
        'numpy._core.multiarray.scalar',
        dtype(string('U999999999')) + content(b''),
    ),
    'rows of nothing': array(
        number(2**40) + b'K\x00\x86', EIGHT, content(b'')
    ),
    'bytes of tuples': call('_codecs.encode', string('a') + tower()),
    'bytes again': many_times(
        LONG, call('_codecs.encode', get(0) + string('latin1'))
    ),
    'arrays again': many_times(NUMBERS, array(SHAPE, EIGHT, get(0))),
    'histories again': many_times(array(SHAPE, EIGHT, NUMBERS), HISTORY),
    'tensors of a number': call('torch.FloatTensor', number(10**8)),
    'bytes of a number': call('torch.storage.UntypedStorage', number(10**9)),
    'arrays of a number': call('numpy.empty', number(10**9)),
    'parameters of a number': named('torch.nn.parameter.Parameter')
    + number(10**9)
    + b'\x85\x81',
    'sparse tensors': call(
        'torch._utils._rebuild_sparse_tensor',
        named('torch.sparse_coo') + b'(' + tensor() * 2 + b't',
    ),
    'a state of a tensor': tensor()
    + b'('
    + storage()
    + b'K\x00'
    + number(2**40)
    + b'\x85K\x01\x85tb',
}


def write(path, pickled, is_script=False, record=bytes(4)):
    """A zip of a pickle and one storage; of torch or TorchScript."""
    state = b'}' + string('a') + pickled + b's'
    if is_script:
        state = b'c__torch__\nM\n)\x81' + state + b'b'
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('x/data.pkl', b'\x80\x02' + state + b'.')
        file.writestr('x/version', '3\n')
        file.writestr('x/byteorder', 'little')
        file.writestr('x/data/0', record)
        if is_script:
            file.writestr('x/constants.pkl', b'\x80\x02).')
            file.writestr('x/code/m.py', '')
    return path


def write_legacy(path, pickled, keys=b']', end=b''):
    """A file as before torch 1.6, with a pickle and then storages."""
    head = (0x1950A86A20F9469CFC6C, 1001, {})
    start = b''.join(pickle.dumps(part, 2) for part in head)
    middle = b'\x80\x02}' + string('a') + pickled + b's.'
    path.write_bytes(start + middle + b'\x80\x02' + keys + b'.' + end)
    return path


def write_all(folder, name, pickled):
    """The same pickle in files of all three kinds."""
    return [
        write(folder / f'{name}.pth', pickled),
        write(folder / f'{name}.pt', pickled, is_script=True),
        write_legacy(folder / f'{name}.bin', pickled, END_KEYS, END),
    ]


END_KEYS = b']' + string('0') + b'a'
END = struct.pack('<q', 1) + bytes(4)
both_readers = pytest.mark.parametrize(
    'read', [read_checkpoint, read_state_dict]
)


def test_bombs(tmp_path):
    paths = []
    for name, pickled in BOMBS.items():
        paths += write_all(tmp_path, name, pickled)
    found = outcomes(paths, read_checkpoint)
    assert found == dict.fromkeys(found, 'refused')


@both_readers
def test_what_surrounds_the_bombs_is_read(tmp_path, read):
    paths = write_all(tmp_path, 'x', tensor())
    found = outcomes(paths, read)
    assert found == dict.fromkeys(found, 'read')


FEW = {
    'shared': laughs(listed, 8),
    'a list of one': b'](' + b'K\x01K\x01\x86' + put(0) + get(0) * 99 + b'e',
    'keys': b'}(K\x01K\x02\x86N' + string('a') + b'N' + number(-5) + b'Nu',
    'an array': array(number(1) + b'\x85', EIGHT, content(bytes(8))),
    'bytes': content(bytes(99)),
}


def test_the_same_in_small_is_read(tmp_path):
    """What is refused is the number, not the kind."""
    for name, pickled in FEW.items():
        found = read_checkpoint(write(tmp_path / f'{name}.pth', pickled))['a']
        assert repr(found)


VIEW = tensor(storage(numel=number(2**18)), size=number(2**18) + b'\x85')


@pytest.mark.parametrize(
    'pickled',
    [b'](' + VIEW * 99, b'](' + VIEW + put(0) + get(0) * 99],
    ids=['tensors', 'places'],
)
@both_readers
def test_one_storage_is_not_a_hundred(tmp_path, read, pickled):
    """A copy of each tensor would take a hundred times the file."""
    record = bytes(2**20)
    path = write(tmp_path / 'x.pth', pickled + b'e', record=record)
    with pytest.raises(CheckpointError, match='share their bytes'):
        read(path)


@pytest.mark.parametrize('numel', [0, 2, 2**40])
@both_readers
def test_a_storage_is_as_large_as_its_record(tmp_path, read, numel):
    claim = tensor(storage(numel=number(numel)))
    for path in write_all(tmp_path, 'x', claim):
        with pytest.raises(CheckpointError, match=r'claims|larger'):
            read(path)


def test_storages_that_a_legacy_file_lacks(tmp_path):
    """Their memory would hold whatever was there before."""
    path = write_legacy(tmp_path / 'x.bin', tensor())
    with pytest.raises(CheckpointError, match='no storage 0'):
        read_checkpoint(path)


@pytest.mark.parametrize('shift', range(16))
def test_records_that_are_not_aligned(tmp_path, shift):
    """Complex numbers of 16 bytes end a process elsewhere."""
    values = torch.arange(64).to(torch.complex128)
    pickled = tensor(
        storage(
            kind=string('storage') + named('torch.ComplexDoubleStorage'),
            numel=number(64),
        ),
        size=number(64) + b'\x85',
    )
    path = tmp_path / 'x.pth'
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('x/' + 'y' * shift, b'')
        whole = b'\x80\x02}' + string('a') + pickled + b's.'
        file.writestr('x/data.pkl', whole)
        file.writestr('x/version', '3\n')
        file.writestr('x/data/0', values.numpy().tobytes())
    for whole in (read_checkpoint(path), open_weights(path).content):
        found = whole['a']
        assert torch.equal(found * found, values * values)
        assert found.data_ptr() % 16 == 0


def test_numbers_of_the_other_byte_order(tmp_path):
    path = write(tmp_path / 'x.pth', tensor(), record=struct.pack('>f', 0.5))
    with zipfile.ZipFile(path) as old:
        names = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, 'w') as new:
        for name, content in names.items():
            new.writestr(name, b'big' if 'byteorder' in name else content)
    for whole in (read_checkpoint(path), open_weights(path).content):
        assert whole['a'].tolist() == [0.5]
