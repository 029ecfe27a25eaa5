"""Archives and headers that claim or hide something are refused early."""

import json
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import torch

from mmclip.checkpoint import CheckpointError, read_checkpoint, read_state_dict
from tests.test_checkpoint.test_files.pickles import (
    both_readers,
    string,
    tensor,
    write,
)

MEBIBYTE = 2**20
MOST_MEMORY = 200 * MEBIBYTE  # of which reading the good files takes tens


@pytest.fixture
def memory():
    """Refuse this process much more memory than it has now."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize('is_script', [False, True])
@both_readers
def test_the_crafted_archive_is_read(tmp_path, is_script, read):
    path = write(tmp_path / 'x.pt', tensor(), is_script, extra=['x/more'])
    assert torch.equal(read(path)['a'], torch.zeros(1))


@pytest.mark.filterwarnings('ignore:Duplicate name')
@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        ('../evil', 'leads out'),
        ('x/../../evil', 'leads out'),
        ('/etc/evil', 'leads out'),
        ('x\\..\\..\\evil', 'leads out'),
        ('x/data.pkl', 'twice'),
        ('x/DATA.PKL', 'twice'),
        ('x/data/0', 'twice'),
        (link('x/data/1'), 'is a link'),
    ],
)
def test_tricks_with_names(tmp_path, extra, message):
    path = write(tmp_path / 'x.pt', tensor(), extra=[extra])
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)
    assert list(tmp_path.iterdir()) == [path]


def test_compressed_zeros(tmp_path, memory):
    """A quarter of a gigabyte in two megabytes."""
    of_another = tensor().replace(string('0'), string('1'))
    path = write(tmp_path / 'x.pt', of_another)
    with (
        zipfile.ZipFile(
            path, 'a', zipfile.ZIP_DEFLATED, compresslevel=1
        ) as file,
        file.open('x/data/1', 'w') as member,
    ):
        for _ in range(256):
            member.write(bytes(MEBIBYTE))
    assert path.stat().st_size < 2 * MEBIBYTE
    with pytest.raises(CheckpointError, match='compressed'):
        read_checkpoint(path)


HUGE = dict(dtype='F32', shape=[2**40], data_offsets=[0, 2**42])
DEEP = '{"a":' * 200 + '0' + '}' * 200
ONE = dict(dtype='F32', shape=[1], data_offsets=[0, 4])


@pytest.mark.parametrize(
    ('length', 'header'),
    [
        (None, dict(w=HUGE)),
        (2**62, dict(w=ONE)),
        (10**8 + 1, dict(w=ONE)),
        (None, dict(w=dict(ONE, shape=[2**40, 2**40]))),
        (None, dict(w=dict(ONE, data_offsets=[2**40, 2**40 + 4]))),
        (None, dict(w=dict(ONE, data_offsets=[4, 0]))),
        (None, dict(a=ONE, b=ONE)),
        (None, dict(w=ONE, __metadata__=dict(clip='[' * 10**6))),
        (None, dict(w=ONE, __metadata__=dict(clip=DEEP))),
        (None, dict(w=ONE, __metadata__=dict(clip='9' * 10**6))),
        (None, dict(w=ONE, __metadata__=dict(clip='[]'))),
        (None, '[' * 10**6),
    ],
)
def test_headers_of_safetensors(tmp_path, memory, length, header):
    path = tmp_path / 'x.safetensors'
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack('<Q', length or len(text)) + text + bytes(4))
    with pytest.raises(CheckpointError, match=r'x\.safetensors'):
        read_checkpoint(path)


@pytest.mark.parametrize(
    'index',
    [
        '[' * 10**6,
        '[]',
        '{"weight_map": []}',
        '{"weight_map": {"w": 3}}',
        '{"weight_map": {"w": ["x"]}}',
    ],
)
def test_indices_of_shards(tmp_path, index):
    path = tmp_path / 'model.safetensors.index.json'
    path.write_text(index)
    with pytest.raises(CheckpointError):
        read_state_dict(path)


def test_an_archive_behind_a_legacy_file(tmp_path):
    """torch reads the beginning, Python's zipfile the end."""
    torch.save(dict(a=torch.ones(1)), tmp_path / 'zip.pth')
    path = tmp_path / 'both.pth'
    torch.save(
        dict(a=torch.ones(1)), path, _use_new_zipfile_serialization=False
    )
    path.write_bytes(path.read_bytes() + (tmp_path / 'zip.pth').read_bytes())
    with pytest.raises(CheckpointError, match='its directory'):
        read_checkpoint(path)


def two_directories(path):
    """Python takes the last directory, torch the one that the end names.

    In that of torch, storage 0 is what Python calls storage 1.
    """
    zeros, ones = struct.pack('<f', 0.0), struct.pack('<f', 1.0)
    write(path, tensor(), record=zeros)
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, 'w') as new:
        new.writestr('x/before', bytes(2000))
        for name, content in (files | {'x/data/1': ones}).items():
            new.writestr(name, content)
        starts = {i.filename: i.header_offset for i in new.infolist()}
    content = path.read_bytes()
    number, size, start = struct.unpack('<HII', content[-12:-2])
    entries = content[start : start + size].split(b'PK\x01\x02')[2:]
    torchs, pythons = b'', b''
    size = sum(len(entry) + 4 for entry in entries)
    for entry in entries:
        name = entry[42:].decode()
        other = 'x/data/1' if name == 'x/data/0' else name
        for where in (starts[other], starts[name] - size):
            part = entry[:38] + struct.pack('<I', where) + entry[42:]
            if where == starts[other]:
                torchs += b'PK\x01\x02' + part
            else:
                pythons += b'PK\x01\x02' + part
    number -= 1  # of the first, which only makes room
    end = struct.pack(
        '<4s4H2IH', b'PK\x05\x06', 0, 0, number, number, size, start, 0
    )
    path.write_bytes(content[:start] + torchs + pythons + end)
    return path


def test_two_directories(tmp_path):
    path = two_directories(tmp_path / 'x.pth')
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read('x/data/0') == struct.pack('<f', 0.0)
    assert torch.load(path)['a'] == 1.0
    with pytest.raises(CheckpointError, match='may have two'):
        read_checkpoint(path)


@pytest.mark.parametrize('saved', ['by torch', 'by Python'])
def test_ends_of_archives_that_say_something_else(tmp_path, saved):
    path = tmp_path / 'x.pth'
    if saved == 'by torch':
        torch.save(dict(w=torch.zeros(1)), path)
    else:
        write(path, tensor())
    content = path.read_bytes()
    read_checkpoint(path)
    ends = [22] if saved == 'by Python' else [22, 22 + 20, 22 + 20 + 56]
    numbers = {
        # Where each number of 32 or 64 bits stands, from the end.
        22: (4, 6, 8, 10, 12, 16),
        22 + 20: (8,),
        22 + 20 + 56: (32, 40, 48),
    }
    changed = [content + b'more', content[:-2] + b'\x04\x00more']
    for end in ends:
        for start in numbers[end]:
            where = len(content) - end + start
            data = bytearray(content)
            data[where] ^= 1
            changed.append(bytes(data))
    for data in changed:
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


@pytest.mark.parametrize('where', [0, 4 + 4, 14, 18, 22, 30])
def test_headers_that_differ_from_the_directory(tmp_path, where):
    """Signature, method, check sum, sizes and name of a file in it."""
    path = write(tmp_path / 'x.pt', tensor())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo('x/data/0').header_offset
    data = bytearray(path.read_bytes())
    data[start + where] ^= 2
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_files_that_lie_in_one_another(tmp_path):
    """A hundred storages of one megabyte, which are the same bytes."""
    path = tmp_path / 'x.pth'
    inner = tmp_path / 'inner.zip'
    with zipfile.ZipFile(inner, 'w') as file:
        file.writestr('x/data/0', bytes(4))
    hidden = inner.read_bytes()
    hidden = hidden[: hidden.index(b'PK\x01\x02')]
    write(path, tensor(), record=hidden)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo('x/data/0').header_offset
        stop = archive.start_dir
    where = content.index(hidden, start)
    entry = content.rindex(b'PK\x01\x02', 0, len(content) - 22)
    # The last entry of the directory once more, at what its content holds.
    again = bytearray(content[entry:-22])
    again[16:28] = struct.pack('<3I', zlib.crc32(bytes(4)), 4, 4)
    again[42:46] = struct.pack('<I', where)
    again[-8:] = b'x/data/1'
    number, size = struct.unpack('<HI', content[-12:-6])
    end = struct.pack(
        '<4s4H2IH',
        b'PK\x05\x06',
        *(0, 0, number + 1, number + 1, size + len(again), stop, 0),
    )
    path.write_bytes(content[:-22] + bytes(again) + end)
    with pytest.raises(CheckpointError, match=r'overlaps another|header that'):
        read_checkpoint(path)


@both_readers
def test_archives_without_check_sums(tmp_path, read):
    """torch leaves them out on demand, because they take time."""
    weights = dict(a=torch.arange(3.0))
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(weights, tmp_path / 'x.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read(tmp_path / 'x.pth')['a'], weights['a'])
