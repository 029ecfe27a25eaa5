"""Archives and headers that claim or hide something are refused early."""

import json
import resource
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from mmclip.checkpoint import CheckpointError, read_checkpoint, read_state_dict
from tests.test_checkpoint.test_training_state import number, string

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


def tensor(numel: int = 1, size: int = 1, stride: int = 1) -> bytes:
    return (
        b'ctorch._utils\n_rebuild_tensor_v2\n(('
        + string('storage')
        + b'ctorch\nFloatStorage\n'
        + string('0')
        + string('cpu')
        + number(numel)
        + b'tQK\x00('
        + number(size)
        + b't('
        + number(stride)
        + b't\x89ccollections\nOrderedDict\n)RtR'
    )


def write(path, *extra, is_script=False, pickled=None, storage=bytes(4)):
    """An archive of one tensor, and more files: names or infos."""
    state = b'(' + string('w') + (pickled or tensor()) + b'u'
    if is_script:
        whole = b'c__torch__\nM\n)\x81}' + state + b'b.'
    else:
        whole = b'}' + state + b'.'
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('x/data.pkl', b'\x80\x02' + whole)
        file.writestr('x/byteorder', 'little')
        file.writestr('x/version', '3\n')
        if is_script:
            file.writestr('x/constants.pkl', b'\x80\x02).')
            file.writestr('x/code/m.py', '')
        file.writestr('x/data/0', storage)
        for name in extra:
            file.writestr(name, b'more')
    return path


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


both_kinds = pytest.mark.parametrize('is_script', [False, True])
both_readers = pytest.mark.parametrize(
    'read', [read_checkpoint, read_state_dict]
)


@both_kinds
@both_readers
def test_the_crafted_archive_is_read(tmp_path, is_script, read):
    path = write(tmp_path / 'x.pt', 'x/more', is_script=is_script)
    assert torch.equal(read(path)['w'], torch.zeros(1))


@pytest.mark.filterwarnings('ignore:Duplicate name')
@both_kinds
@both_readers
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
def test_tricks_with_names(tmp_path, is_script, read, extra, message):
    path = write(tmp_path / 'x.pt', extra, is_script=is_script)
    with pytest.raises(CheckpointError, match=message):
        read(path)
    assert list(tmp_path.iterdir()) == [path]


@both_kinds
@both_readers
@pytest.mark.parametrize(
    'claim',
    [
        dict(numel=2**40, size=2**40),
        dict(size=2**40),
        dict(size=2**40, stride=0),
        dict(numel=10**9, size=10**9),
    ],
)
def test_claims_of_terabytes(tmp_path, memory, is_script, read, claim):
    pickled = tensor(**claim)
    path = write(tmp_path / 'x.pt', is_script=is_script, pickled=pickled)
    with pytest.raises(CheckpointError):
        read(path)


@both_kinds
@both_readers
def test_compressed_zeros(tmp_path, memory, is_script, read):
    """A quarter of a gigabyte in a megabyte."""
    info = zipfile.ZipInfo('x/data/1')
    info.compress_type = zipfile.ZIP_DEFLATED
    pickled = tensor().replace(string('0'), string('1'))
    path = write(tmp_path / 'x.pt', is_script=is_script, pickled=pickled)
    with (
        zipfile.ZipFile(path, 'a') as file,
        file.open(info, 'w') as member,
    ):
        for _ in range(256):
            member.write(bytes(MEBIBYTE))
    assert path.stat().st_size < MEBIBYTE
    with pytest.raises(CheckpointError, match='compressed'):
        read(path)


@both_readers
def test_legacy_files_that_claim_more(tmp_path, memory, read):
    path = tmp_path / 'x.bin'
    torch.save(
        dict(w=torch.zeros(3)), path, _use_new_zipfile_serialization=False
    )
    content = path.read_bytes()
    # The number of values stands in the pickle as one byte, in the file's end
    # as eight.
    end = struct.pack('<q', 3) + bytes(12)
    assert content.endswith(end)
    path.write_bytes(
        content.removesuffix(end) + struct.pack('<q', 2**40) + bytes(12)
    )
    with pytest.raises(CheckpointError):
        read(path)


@both_readers
@pytest.mark.parametrize('opcode', [b'(', b']'])
def test_deeply_nested_pickles(tmp_path, read, opcode):
    end = {b'(': b't', b']': b'a'}[opcode]
    depth = 10**5
    ends = end * (depth - (opcode == b']'))
    path = write(tmp_path / 'x.pt', pickled=opcode * depth + ends)
    with pytest.raises(CheckpointError):
        read(path)


HUGE = dict(dtype='F32', shape=[2**40], data_offsets=[0, 2**42])
ONE = dict(dtype='F32', shape=[1], data_offsets=[0, 4])


@both_readers
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
        (None, dict(w=ONE, __metadata__=dict(clip='9' * 10**6))),
        (None, dict(w=ONE, __metadata__=dict(clip='[]'))),
        (None, '[' * 10**6),
    ],
)
def test_headers_of_safetensors(tmp_path, memory, read, length, header):
    path = tmp_path / 'x.safetensors'
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack('<Q', length or len(text)) + text + bytes(4))
    with pytest.raises(CheckpointError, match=r'x\.safetensors'):
        read(path)


@pytest.mark.parametrize(
    'index',
    [
        '[' * 10**6,
        '[]',
        '{"weight_map": []}',
        '{"weight_map": {"w": 3}}',
        '{"weight_map": {"w": ["x"]}}',
        '{"weight_map": {"w": "none.safetensors"}}',
    ],
)
def test_indices_of_shards(tmp_path, index):
    path = tmp_path / 'model.safetensors.index.json'
    path.write_text(index)
    with pytest.raises(CheckpointError):
        read_state_dict(path)


def test_shards_lie_beside_their_index(tmp_path):
    secret = tmp_path / 'secret.safetensors'
    header = json.dumps(dict(w=ONE)).encode()
    secret.write_bytes(struct.pack('<Q', len(header)) + header + bytes(4))
    folder = tmp_path / 'model'
    folder.mkdir()
    index = dict(weight_map=dict(w='../secret.safetensors'))
    path = folder / 'model.safetensors.index.json'
    path.write_text(json.dumps(index))
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
