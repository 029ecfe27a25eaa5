"""OpenAI's archives: all tensors, nothing executed."""

import pickle
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

from mmclip.checkpoint import (
    CheckpointError,
    convert_source,
    read_checkpoint,
    read_state_dict,
)
from mmclip.checkpoint.towers.export import export_checkpoint
from tests.test_checkpoint.test_files.pickles import (
    archive,
    call,
    module,
    named,
    string,
    tensor,
    write,
)

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
def openai(tiny_model, tmp_path) -> Path:
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


def test_every_tensor_as_torch_reads_it(openai):
    # Run on purpose: an archive that this file made.
    wanted = torch.jit.load(openai).state_dict()
    ours = read_checkpoint(openai)
    assert set(ours) == set(wanted)
    for key, values in wanted.items():
        assert ours[key].dtype == values.dtype
        assert torch.equal(ours[key], values), key


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


def test_an_archive_is_converted_and_the_base_of_an_export(openai, tiny_model):
    checkpoint, conversion = convert_source(
        str(tiny_model.config), str(openai)
    )
    tensors = checkpoint['state_dict'].values()
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert conversion.left_out["sizes in OpenAI's files"] == [
        'input_resolution',
        'context_length',
        'vocab_size',
    ]
    base = {**tiny_model.model.state_dict(), **read_state_dict(openai)}
    exported = export_checkpoint(checkpoint, 'open_clip', base=base)
    tiny_model.model.load_state_dict(exported.state_dict)  # strictly
    assert (
        'left out of the base: input_resolution, context_length, vocab_size'
        in exported.notes
    )


@pytest.mark.parametrize(
    'name',
    [
        'os.mkdir',
        'builtins.eval',
        'torch.save',
        'torch.load',
        'torch.hub.load',
        '__torch__os.system',
    ],
)
def test_what_is_not_a_module_is_refused_and_not_called(tmp_path, name):
    witness = tmp_path / 'witness'
    path = write(tmp_path / 'x.pt', call(name, string(str(witness))), True)
    with pytest.raises(CheckpointError, match='could execute code'):
        read_checkpoint(path)
    assert not witness.exists()
    if name == 'os.mkdir':  # elsewhere it is called
        pickle.loads(call(name, string(str(witness))) + b'.')
        assert witness.exists()


def craft(tmp_path, content: bytes) -> Path:
    return archive(tmp_path / 'x.pt', b'\x80\x02' + content, is_script=True)


def test_modules_that_hold_themselves_are_refused(tmp_path):
    # A module, memoised, whose attribute is itself.
    content = b'c__torch__\nM\n)\x81q\x00}' + string('a') + b'h\x00sb.'
    with pytest.raises(CheckpointError, match='in itself'):
        read_checkpoint(craft(tmp_path, content))


TENSOR = string('w') + tensor()


@pytest.mark.parametrize(
    'target',
    [
        tensor(),
        named('torch._utils._rebuild_tensor_v2'),
        named('torch.jit._pickle.restore_type_tag'),
        named('torch.FloatStorage'),
        named('collections.OrderedDict'),
        call('collections.OrderedDict'),
        named('__torch__.M'),
    ],
)
@pytest.mark.parametrize(
    'state',
    [
        b'}' + string('a') + b'K\x01s',
        b'N}' + string('__defaults__') + b'(K\x01ts\x86',
        # What torch.Tensor.__setstate__ takes: gradient, nothing, hooks.
        b'(\x89N}' + string('hook') + b'K\x01st',
    ],
)
def test_nothing_but_modules_can_be_altered(tmp_path, target, state):
    whole = module(TENSOR + string('x') + target + state + b'b')
    with pytest.raises(CheckpointError):
        read_checkpoint(craft(tmp_path, whole + b'.'))


def test_modules_in_many_places_do_not_multiply(tmp_path):
    content = module(TENSOR) + b'q\x00'
    for depth in range(40):
        last = b'h' + bytes([depth])
        content += module(string('a') + last + string('b') + last)
        content += b'q' + bytes([depth + 1])
    with pytest.raises(CheckpointError, match='too often'):
        read_checkpoint(craft(tmp_path, content + b'.'))


def test_numbers_of_objects_reserve_no_memory(tmp_path):
    # Four bytes of a number, which the pickle module in C makes 64 GiB.
    path = craft(tmp_path, module(TENSOR) + b'r\xff\xff\xff\xff.')
    assert torch.equal(read_checkpoint(path)['w'], torch.zeros(1))


@pytest.mark.parametrize('content', [b'', b'\x80\x02.', b'\x80\x02]q\x00.'])
def test_a_damaged_pickle_gets_one_sentence(tmp_path, content):
    path = archive(tmp_path / 'x.pt', content, is_script=True)
    with pytest.raises(CheckpointError, match=r'x\.pt is '):
        read_checkpoint(path)
