"""Files of some kilobytes that would take years, or terabytes, to read."""

import struct
import zipfile

import pytest
import torch

from mmclip.checkpoint import CheckpointError, open_weights, read_checkpoint
from tests.test_checkpoint.limits import outcomes
from tests.test_checkpoint.test_files.pickles import (
    EMPTY_ARRAY,
    array,
    as_key,
    both_readers,
    call,
    content,
    dtype,
    get,
    listed,
    mapped,
    named,
    number,
    paired,
    put,
    storage,
    string,
    tensor,
    write,
    write_all,
    write_legacy,
)

MANY = 60  # 2 ** 60 of anything is too much
TIMES = 1000  # a thousand of what has a megabyte, too


def laughs(layer, times: int = MANY) -> bytes:
    """Containers, each of which holds the one before it twice."""
    whole = layer(string('ha'), string('ha')) + put(0)
    for i in range(times):
        whole += layer(get(i), get(i)) + put(i + 1)
    return b'](' + whole + b'e'


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
TAKEN_APART = {
    'a set': call('builtins.set', ENDLESS),
    'a size': call('torch.Size', ENDLESS),
    'a pair': call('collections.OrderedDict', b']' + ENDLESS + b'a'),
    'a reference': ENDLESS + b'Q',
    'a shape': array(ENDLESS, EIGHT, content(bytes(8))),
    'a shape of a tensor': tensor(size=ENDLESS, stride=ENDLESS),
    'a state of an array': EMPTY_ARRAY + ENDLESS + b'b',
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


CLAIMS = [
    dict(of=storage(numel=number(0))),
    dict(of=storage(numel=number(2))),
    dict(of=storage(numel=number(2**40))),
    dict(of=storage(numel=number(2**40)), size=number(2**40) + b'\x85'),
    dict(size=number(2**40) + b'\x85'),
    dict(size=number(2**40) + b'\x85', stride=b'K\x00\x85'),
    dict(size=b'K\x02K\x02\x86', stride=number(10**9) + b'K\x01\x86'),
    dict(offset=number(10**9)),
    dict(offset=number(-1)),
]


@both_readers
def test_tensors_and_storages_hold_what_they_claim(tmp_path, read):
    paths = []
    for i, claim in enumerate(CLAIMS):
        paths += write_all(tmp_path, str(i), tensor(**claim))
    found = outcomes(paths, read)
    assert found == dict.fromkeys(found, 'refused')


@pytest.mark.parametrize(
    ('keys', 'end', 'message'),
    [
        # Its memory would hold whatever was there before.
        (b']', b'', 'no storage 0'),
        (b']' + string('0') + b'a', struct.pack('<q', 2**40), 'but has'),
    ],
)
def test_ends_of_legacy_files(tmp_path, keys, end, message):
    path = tmp_path / 'crafted.bin'
    write_legacy(path, tensor(), keys, end + bytes(4))
    assert outcomes([path], read_checkpoint) == {path.name: 'refused'}
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_records_that_are_not_aligned(tmp_path):
    """Complex numbers of 16 bytes end a process elsewhere."""
    values = torch.arange(64).to(torch.complex128)
    kind = string('storage') + named('torch.ComplexDoubleStorage')
    pickled = tensor(
        storage(kind=kind, numel=number(64)), size=number(64) + b'\x85'
    )
    path, record = tmp_path / 'x.pth', values.numpy().tobytes()
    for shift in range(16):
        more = string('more') + string('y' * shift)
        write(path, pickled + more, record=record)
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
