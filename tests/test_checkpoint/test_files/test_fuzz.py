"""Damaged files of every format: a result, or one class of exception.

Nothing in them is executed, nothing takes long, and a model gets all of the
weights or none.
"""

import copy
import json
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmclip.checkpoint import (
    CheckpointError,
    PretrainedCLIP,
    read_checkpoint,
    read_state_dict,
    write_checkpoint,
)
from mmclip.models import CLIPVisionTransformer
from tests.test_checkpoint.conftest import Payload
from tests.test_checkpoint.limits import outcomes
from tests.test_checkpoint.test_files.pickles import (
    as_key,
    call,
    content,
    get,
    listed,
    mapped,
    number,
    paired,
    put,
    storage,
    string,
    tensor,
    write_all,
)

pytestmark = [
    pytest.mark.filterwarnings('ignore:.*torch.jit'),
    pytest.mark.filterwarnings('ignore:Detected pickle protocol'),
]
# Changes of a file, for each format and reader.
few_or_many = pytest.mark.parametrize(
    'number_of_files', [100, pytest.param(2000, marks=pytest.mark.exhaustive)]
)
SECONDS = 20  # for files of some kilobytes: a hang, not a slow machine

CLIP = dict(
    backbone=dict(
        type='mmclip.CLIPVisionTransformer', arch='small', act='gelu'
    )
)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))


def save_training(path: Path) -> None:
    """As mmengine does, with its message hub."""
    trained = model()
    optimizer = torch.optim.AdamW(trained.parameters())
    trained(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    history = HistoryBuffer([0.5, 0.25], [1, 2])
    hub = dict(log_scalars=dict(loss=history), lr=np.float64(0.125))
    checkpoint = dict(
        meta=dict(clip=CLIP, iter=3),
        state_dict=model().state_dict(),
        message_hub=hub,
        optimizer=optimizer.state_dict(),
    )
    torch.save(checkpoint, path)


def save_weights(path: Path) -> None:
    """A state dict alone, or safetensors, by the suffix."""
    meta = dict(clip=CLIP)
    write_checkpoint(dict(meta=meta, state_dict=model().state_dict()), path)


def save_torchscript(path: Path) -> None:
    torch.jit.script(model()).save(str(path))


def save_legacy(path: Path, weights: dict | None = None) -> None:
    """As torch did before 1.6."""
    weights = weights or model().state_dict()
    torch.save(weights, path, _use_new_zipfile_serialization=False)


def save_index(path: Path) -> None:
    """An index of two shards of safetensors, which stay whole."""
    weights, names = model().state_dict(), {}
    for i, part in enumerate(('0.', '1.')):
        shard = {k: v for k, v in weights.items() if k.startswith(part)}
        name = f'model-{i}.safetensors'
        write_checkpoint(dict(state_dict=shard), path.parent / name)
        names |= dict.fromkeys(shard, name)
    path.write_text(json.dumps(dict(weight_map=names)))


# Name, writer, and whether a change cannot go unseen.
FORMATS: dict[str, tuple[str, Callable, bool]] = {
    'training': ('x.pth', save_training, True),
    'torch': ('x.pth', save_weights, True),
    'torchscript': ('x.pt', save_torchscript, True),
    'safetensors': ('x.safetensors', save_weights, False),
    'before 1.6': ('x.bin', save_legacy, False),
    'shards': ('x.safetensors.index.json', save_index, False),
}


def mutate(content: bytes, dice: random.Random) -> bytes:
    """Cut, change, insert, delete or repeat something."""
    data = bytearray(content)
    where = dice.randrange(len(data))
    length = dice.randint(1, 9)
    kind = dice.randrange(6)
    if kind == 0:
        del data[where:]
    elif kind == 1:
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
    elif kind == 2:
        data[where:where] = dice.randbytes(length)
    elif kind == 3:
        del data[where : where + length]
    elif kind == 4:
        data[where:where] = data[where : where + 20 * length]
    else:  # the beginning holds headers and pickles
        data[min(where, dice.randrange(3000))] ^= 1 << dice.randrange(8)
    return bytes(data)


def mutants(path: Path, number_of_files: int) -> Iterator[None]:
    """Change a file again and again; fail what takes too long with it."""

    def fail(*_: object) -> None:
        pytest.fail(f'A file is still being read after {SECONDS} seconds.')

    content, dice = path.read_bytes(), random.Random(number_of_files)
    before = signal.signal(signal.SIGALRM, fail)
    try:
        for _ in range(number_of_files):
            path.write_bytes(mutate(content, dice))
            signal.alarm(SECONDS)
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ('kind', 'read'),
    [
        (kind, read)
        for read in (read_checkpoint, read_state_dict)
        for kind in FORMATS
        # Only archives of torch are mapped in one way and read in another.
        if read is read_checkpoint or kind in ('training', 'torchscript')
    ],
)
@few_or_many
def test_mutations(tmp_path, kind, read, number_of_files):
    name, save, has_check_sums = FORMATS[kind]
    path = tmp_path / name
    save(path)
    wanted, outcomes = dict(read_state_dict(path)), {True: 0, False: 0}
    for _ in mutants(path, number_of_files):
        try:
            found = read(path)
            tensors = dict(found.get('state_dict', found))
        except CheckpointError:
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        if has_check_sums:  # then what is read is what was written
            assert set(tensors) == set(wanted)
            for key, tensor in wanted.items():
                assert torch.equal(tensors[key], tensor)
    assert min(outcomes.values()) > 0


@pytest.mark.parametrize('zipped', [True, False])
@few_or_many
def test_mutations_of_a_payload_are_not_run(
    tmp_path, monkeypatch, zipped, number_of_files
):
    """Nor does a change make a payload pass for something else."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    path, witness = tmp_path / 'x.pth', tmp_path / 'witness'
    torch.save(
        dict(extra=Payload(witness), state_dict=model().state_dict()),
        path,
        _use_new_zipfile_serialization=zipped,
    )
    for _ in mutants(path, number_of_files):
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    assert list(tmp_path.iterdir()) == [path]


def backbone(seed: int) -> CLIPVisionTransformer:
    torch.manual_seed(seed)
    return CLIPVisionTransformer(
        arch=dict(width=8, depth=1, num_heads=1, mlp_width=8),
        act='gelu',
        img_size=16,
        patch_size=8,
    )


@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors', 'x.bin'])
@few_or_many
def test_a_model_gets_all_weights_or_none(tmp_path, name, number_of_files):
    path = tmp_path / name
    weights = {f'backbone.{k}': v for k, v in backbone(1).state_dict().items()}
    if name == 'x.bin':
        save_legacy(path, weights)
    else:
        write_checkpoint(dict(state_dict=weights), path)
    module, outcomes = backbone(0), {True: 0, False: 0}
    before = {k: v.clone() for k, v in module.state_dict().items()}
    for _ in mutants(path, number_of_files):
        module.load_state_dict(before)
        try:
            PretrainedCLIP(str(path))(module)
        except CheckpointError:
            outcomes[False] += 1
            for key, value in module.state_dict().items():
                assert torch.equal(value, before[key])
        else:
            outcomes[True] += 1
            found = read_checkpoint(path)
            for key, value in module.state_dict().items():
                wanted = found.get('state_dict', found)[f'backbone.{key}']
                assert torch.equal(
                    value.nan_to_num(), wanted.to(value.dtype).nan_to_num()
                )
    assert min(outcomes.values()) > 0


# What a pickle may call, and some that it may not.
FUNCTIONS = [
    'collections.OrderedDict',
    'collections.Counter',
    'collections.defaultdict',
    'builtins.set',
    'builtins.frozenset',
    'builtins.bytearray',
    'builtins.complex',
    'builtins.getattr',
    '_codecs.encode',
    'mmengine.config.config.ConfigDict',
    'mmengine.logging.history_buffer.HistoryBuffer',
    'numpy.dtype',
    'numpy.ndarray',
    'numpy._core.multiarray._reconstruct',
    'numpy._core.multiarray.scalar',
    'torch.FloatTensor',
    'torch.Size',
    'torch._utils._rebuild_parameter',
    'torch.storage.UntypedStorage',
]


def tangle(dice: random.Random) -> bytes:
    """Values that share and nest, as a pickle; half of them lie, too."""
    is_wild = dice.random() < 0.5
    written, known = b'', 0  # the pickle, and the values of its memo
    sizes = [number(size) for size in (0, 1, 2**40)] if is_wild else [b'K\x01']

    def value() -> bytes:
        if known and dice.random() < 0.6:
            return get(dice.randrange(max(0, known - 3), known))
        length = dice.choice(sizes)
        return dice.choice(
            [
                string(dice.choice(['a', 'latin1', 'u1', 'x' * 999])),
                number(dice.choice([0, 1, -1, 2**60])),
                content(bytes(dice.randrange(99))),
                tensor(
                    storage(numel=length),
                    size=dice.choice(sizes) + b'\x85',
                    stride=dice.choice(sizes) + b'\x85',
                ),
            ]
        )

    for _ in range(dice.randrange(1, 100 if is_wild else 40)):
        kind = dice.randrange(12 if is_wild else 8)
        if kind < 7:
            written += dice.choice([listed, paired, mapped])(value(), value())
        elif kind == 7:
            written += call('builtins.frozenset', b']') + b'\x85'
        elif kind == 8:
            written += as_key(value())
        elif kind == 9:
            written += call(dice.choice(FUNCTIONS), value(), value())
        elif kind == 10:
            written += call(dice.choice(FUNCTIONS), value())
        else:
            written += value() + dice.choice([b'\x85', b'}b', b')\x81'])
        written += put(known)
        known += 1
    return b'](' + written + b'e'


@few_or_many
def test_tangles(tmp_path, number_of_files):
    """Whatever is read can be shown, copied and compared."""

    def use(path):
        found = read_checkpoint(path)
        repr(found)
        copied = copy.deepcopy(found)
        try:
            assert copied.keys() == found.keys()
            copied == found  # noqa: B015
        except (RuntimeError, ValueError):  # of tensors and arrays of many
            pass

    dice, paths = random.Random(number_of_files), []
    for i in range(number_of_files // 3):
        paths += write_all(tmp_path, str(i), tangle(dice))
    found = outcomes(paths, use)
    assert set(found.values()) == {'read', 'refused'}
