"""Pickles and files by hand: what no library writes."""

import pickle
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from mmclip.checkpoint import read_checkpoint, read_state_dict

both_readers = pytest.mark.parametrize(
    'read', [read_checkpoint, read_state_dict]
)


def string(text: str) -> bytes:
    encoded = text.encode()
    return b'X' + struct.pack('<I', len(encoded)) + encoded


def number(value: int) -> bytes:
    return b'\x8a\x08' + struct.pack('<q', value)


def content(value: bytes) -> bytes:
    return call(
        '_codecs.encode', string(value.decode('latin1')), string('latin1')
    )


def put(i: int) -> bytes:
    return b'r' + struct.pack('<I', i)


def get(i: int) -> bytes:
    return b'j' + struct.pack('<I', i)


def named(name: str) -> bytes:
    module, _, function = name.rpartition('.')
    return f'c{module}\n{function}\n'.encode()


def call(name: str, *args: bytes) -> bytes:
    return named(name) + b'(' + b''.join(args) + b'tR'


def listed(a: bytes, b: bytes) -> bytes:
    return b'](' + a + b + b'e'


def paired(a: bytes, b: bytes) -> bytes:
    return a + b + b'\x86'


def mapped(a: bytes, b: bytes) -> bytes:
    return b'}(' + string('a') + a + string('b') + b + b'u'


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


EMPTY_ARRAY = call(
    'numpy._core.multiarray._reconstruct',
    named('numpy.ndarray') + b'K\x00\x85' + content(b'b'),
)


def array(shape: bytes, kind: bytes, values: bytes) -> bytes:
    return EMPTY_ARRAY + b'(K\x01' + shape + kind + b'\x89' + values + b'tb'


def dtype(kind: bytes, state: bytes = b'') -> bytes:
    return call('numpy.dtype', kind, b'\x89\x88') + state


def module(attributes: bytes) -> bytes:
    """Of TorchScript."""
    return b'c__torch__\nM\n)\x81}(' + attributes + b'ub'


def archive(
    path: Path,
    whole: bytes,
    is_script: bool = False,
    record: bytes = bytes(4),
    extra: Iterable[str | zipfile.ZipInfo] = (),
) -> Path:
    """A zip of a pickle and of storage 0; of torch or TorchScript."""
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('x/data.pkl', whole)
        file.writestr('x/version', '3\n')
        file.writestr('x/byteorder', 'little')
        if is_script:
            file.writestr('x/constants.pkl', b'\x80\x02).')
            file.writestr('x/code/m.py', '')
        file.writestr('x/data/0', record)
        for name in extra:
            file.writestr(name, b'more')
    return path


def write(path: Path, pickled: bytes, is_script=False, **more) -> Path:
    """The same, of a value that is named ``a``."""
    state = string('a') + pickled
    whole = module(state) if is_script else b'}(' + state + b'u'
    return archive(path, b'\x80\x02' + whole + b'.', is_script, **more)


def write_legacy(path, pickled, keys=b']', end=b'') -> Path:
    """A file as before torch 1.6, with a pickle and then storages."""
    head = (0x1950A86A20F9469CFC6C, 1001, {})
    start = b''.join(pickle.dumps(part, 2) for part in head)
    middle = b'\x80\x02}' + string('a') + pickled + b's.'
    path.write_bytes(start + middle + b'\x80\x02' + keys + b'.' + end)
    return path


def write_all(folder: Path, name: str, pickled: bytes) -> list[Path]:
    """The same pickle in files of all three kinds."""
    keys, end = b']' + string('0') + b'a', struct.pack('<q', 1) + bytes(4)
    return [
        write(folder / f'{name}.pth', pickled),
        write(folder / f'{name}.pt', pickled, is_script=True),
        write_legacy(folder / f'{name}.bin', pickled, keys, end),
    ]
