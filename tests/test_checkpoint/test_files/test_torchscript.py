"""OpenAI's archives: all tensors, nothing executed."""

import io
import pickle
import zipfile
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

from mmclip.checkpoint import (
    CheckpointError,
    convert_source,
    open_weights,
    read_checkpoint,
    read_state_dict,
)
from mmclip.checkpoint.towers.export import export_checkpoint
from tests.test_checkpoint.test_files import test_archive
from tests.test_checkpoint.test_files.test_pickled_numbers import string

# torch.jit is deprecated, and OpenAI's files are what they are.
pytestmark = pytest.mark.filterwarnings('ignore:.*torch.jit')


class OpenAI(nn.Module):
    """A whole small CLIP as OpenAI saved it: sizes as buffers, half fp16."""

    def __init__(self, model: open_clip.CLIP):
        super().__init__()
        self.visual = model.visual
        self.token_embedding = model.token_embedding
        self.positional_embedding = model.positional_embedding
        self.logit_scale = model.logit_scale
        for name, size in (
            ('input_resolution', 32),
            ('context_length', 8),
            ('vocab_size', 49408),
        ):
            self.register_buffer(name, torch.tensor(size))

    def forward(self, x):
        return self.visual(x)


@pytest.fixture
def archive(tiny_model, tmp_path) -> Path:
    path = tmp_path / 'ViT-tiny.pt'
    model = OpenAI(tiny_model.model)
    traced = torch.jit.trace(
        model, torch.zeros(1, 3, 32, 32), check_trace=False
    )
    for name, parameter in traced.named_parameters():
        if parameter.ndim > 1 and 'embedding' not in name:
            parameter.data = parameter.data.half()
    traced.save(str(path))
    return path


def rewrite(source: Path, target: Path, **changes: bytes) -> Path:
    """A copy of an archive with other contents of some of its files."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w') as new:
        for info in old.infolist():
            content = old.read(info)
            key = info.filename.partition('/')[2].replace('.', '_')
            new.writestr(info.filename, changes.get(key, content))
    return target


def test_every_tensor_as_torch_reads_it(archive):
    # Run on purpose: an archive that this file made.
    wanted = torch.jit.load(archive).state_dict()
    ours = read_checkpoint(archive)
    assert set(ours) == set(wanted)
    for key, tensor in wanted.items():
        assert ours[key].dtype == tensor.dtype
        assert torch.equal(ours[key], tensor), key


def test_scripted_modules_lists_and_views(tmp_path):
    class Scripted(nn.Module):
        def __init__(self):
            super().__init__()
            whole = torch.arange(12.0)
            self.layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
            self.register_buffer('view', whole[2:10].view(2, 4).t())
            self.register_buffer('whole', whole)
            self.register_buffer('empty', torch.empty(0, 3))
            self.sizes = [1, 2, 3]
            self.names = {'a': 1}
            self.device, self.number = torch.device('cpu'), 1j

        def forward(self, x):
            return self.layers(x) + self.sizes[0]

    path = tmp_path / 'x.pt'
    torch.jit.script(Scripted()).save(str(path))
    # As above: its own archive.
    wanted, ours = torch.jit.load(path).state_dict(), read_checkpoint(path)
    assert set(ours) == set(wanted)
    assert all(torch.equal(ours[key], wanted[key]) for key in wanted)


def test_conversion_of_an_archive(archive, tiny_model):
    checkpoint, conversion = convert_source(
        str(tiny_model.config), str(archive)
    )
    tensors = checkpoint['state_dict'].values()
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert conversion.left_out["sizes in OpenAI's files"] == [
        'input_resolution',
        'context_length',
        'vocab_size',
    ]


def test_an_archive_as_the_base_of_an_export(archive, tiny_model):
    checkpoint, _ = convert_source(str(tiny_model.config), str(archive))
    base = {**tiny_model.model.state_dict(), **read_state_dict(archive)}
    exported = export_checkpoint(checkpoint, 'open_clip', base=base)
    tiny_model.model.load_state_dict(exported.state_dict)  # strictly
    assert (
        'left out of the base: input_resolution, context_length, vocab_size'
        in exported.notes
    )


class Touch:
    """A pickle that would create a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'make',
    [
        lambda path: Touch(Path.touch, path),
        lambda path: Touch(eval, f'open({str(path)!r}, "w")'),
        lambda path: Touch(torch.save, {}, str(path)),
    ],
)
def test_a_crafted_archive_is_refused_and_not_executed(
    archive, tmp_path, make
):
    marker = tmp_path / 'executed'
    crafted = rewrite(
        archive,
        tmp_path / 'crafted.pt',
        data_pkl=pickle.dumps(make(marker), protocol=2),
    )
    with pytest.raises(CheckpointError, match='could execute code'):
        read_checkpoint(crafted)
    assert not marker.exists()


@pytest.mark.parametrize(
    'name', [b'__torch__os\nsystem', b'torch\nload', b'torch.hub\nload']
)
def test_names_that_look_like_torchs_are_refused(archive, tmp_path, name):
    crafted = rewrite(
        archive, tmp_path / 'x.pt', data_pkl=b'\x80\x02c' + name + b'\n.'
    )
    with pytest.raises(CheckpointError, match='could execute code'):
        read_checkpoint(crafted)


@pytest.mark.parametrize(
    ('offset', 'size', 'stride'),
    [
        (0, (10**9,), (1,)),
        (10**9, (1,), (1,)),
        (0, (2, 2), (10**9, 1)),
        (-1, (1,), (1,)),
    ],
)
def test_tensors_outside_their_storage_are_refused(
    archive, tmp_path, offset, size, stride
):
    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                return ('storage', torch.FloatStorage, '0', 'cpu', length)

    with zipfile.ZipFile(archive) as old:
        length = old.getinfo(f'{archive.stem}/data/0').file_size // 4
    file = io.BytesIO()
    tensor = Touch(
        torch._utils._rebuild_tensor_v2, Storage(), offset, size, stride, False
    )
    Pickler(file, protocol=2).dump(tensor)
    crafted = rewrite(archive, tmp_path / 'x.pt', data_pkl=file.getvalue())
    with pytest.raises(CheckpointError, match=r'storage|impossible'):
        read_checkpoint(crafted)


def test_modules_that_hold_themselves_are_refused(archive, tmp_path):
    # A module, memoised, whose attribute is itself.
    content = b'\x80\x02c__torch__\nM\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb.'
    crafted = rewrite(archive, tmp_path / 'x.pt', data_pkl=content)
    with pytest.raises(CheckpointError, match='in itself'):
        read_checkpoint(crafted)


TENSOR = test_archive.tensor()


@pytest.fixture
def craft(tmp_path):
    """An archive of one storage of one value, and the pickle given."""

    def make(content: bytes) -> Path:
        path = tmp_path / 'crafted.pt'
        with zipfile.ZipFile(path, 'w') as file:
            file.writestr('x/data.pkl', b'\x80\x02' + content)
            file.writestr('x/data/0', bytes(4))
            file.writestr('x/constants.pkl', b'\x80\x02).')
            file.writestr('x/code/m.py', '')
        return path

    return make


def module(attributes: bytes) -> bytes:
    return b'c__torch__\nM\n)\x81}(' + attributes + b'ub'


def test_the_crafted_tensor_is_read(craft):
    path = craft(module(string('w') + TENSOR) + b'.')
    assert torch.equal(read_checkpoint(path)['w'], torch.zeros(1))


@pytest.mark.parametrize(
    'target',
    [
        TENSOR,
        b'ctorch._utils\n_rebuild_tensor_v2\n',
        b'ctorch.jit._pickle\nrestore_type_tag\n',
        b'ctorch\nFloatStorage\n',
        b'ccollections\nOrderedDict\n',
        b'ccollections\nOrderedDict\n)R',
        b'c__torch__\nM\n',
    ],
)
@pytest.mark.parametrize(
    'state',
    [
        b'}' + string('a') + b'K\x01s',
        b'N}' + string('__defaults__') + b'(K\x01ts\x86',
        b'(\x89N}' + string('hook') + b'K\x01st',
    ],
)
def test_nothing_but_modules_can_be_altered(craft, target, state):
    whole = module(string('w') + TENSOR + string('x') + target + state + b'b')
    with pytest.raises(CheckpointError):
        read_checkpoint(craft(whole + b'.'))


def test_tensors_get_no_hooks(craft):
    # What torch.Tensor.__setstate__ takes: gradient, nothing, hooks.
    hooks = b'}K\x07ctorch.jit._pickle\nrestore_type_tag\ns'
    state = b'(\x89N' + hooks + b't'
    content = module(string('w') + TENSOR + state + b'b') + b'.'
    with pytest.raises(CheckpointError, match='sets the state'):
        read_checkpoint(craft(content))


def test_modules_in_many_places_do_not_multiply(craft):
    content = module(string('w') + TENSOR) + b'q\x00'
    for depth in range(40):
        last = b'h' + bytes([depth])
        content += module(string('a') + last + string('b') + last)
        content += b'q' + bytes([depth + 1])
    with pytest.raises(CheckpointError, match='too often'):
        read_checkpoint(craft(content + b'.'))


def test_numbers_of_objects_reserve_no_memory(craft):
    # Four bytes of a number, which the pickle module in C makes 64 GiB.
    content = module(string('w') + TENSOR) + b'r\xff\xff\xff\xff.'
    assert list(read_checkpoint(craft(content))) == ['w']


@pytest.mark.parametrize('content', [b'', b'\x80\x02.', b'\x80\x02]q\x00.'])
def test_a_damaged_pickle_gets_one_sentence(archive, tmp_path, content):
    crafted = rewrite(archive, tmp_path / 'x.pt', data_pkl=content)
    with pytest.raises(CheckpointError, match=r'x\.pt is '):
        read_checkpoint(crafted)


def test_ordinary_checkpoints_are_not_programs(archive, tmp_path):
    torch.save(dict(a=torch.zeros(1)), tmp_path / 'x.pt')
    assert open_weights(tmp_path / 'x.pt').kind == 'torch'
    assert open_weights(archive).kind == 'TorchScript'
