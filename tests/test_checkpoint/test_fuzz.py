"""Damaged files of every format: a result, or one class of exception."""

import random

import pytest
import torch
from torch import nn

from mmclip.checkpoint import (
    CheckpointError,
    read_checkpoint,
    read_state_dict,
    write_checkpoint,
)

pytestmark = pytest.mark.filterwarnings('ignore:.*torch.jit')
NUM_MUTATIONS = 1000


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))


def save_training(path):
    trained = model()
    optimizer = torch.optim.AdamW(trained.parameters())
    trained(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    meta = dict(clip=dict(a=1), iter=3)
    checkpoint = dict(
        meta=meta,
        state_dict=model().state_dict(),
        optimizer=optimizer.state_dict(),
    )
    write_checkpoint(checkpoint, path)


def save_safetensors(path):
    meta = dict(clip=dict(a=1))
    write_checkpoint(dict(meta=meta, state_dict=model().state_dict()), path)


def save_torchscript(path):
    torch.jit.script(model()).save(str(path))


def save_before_torch_1_6(path):
    torch.save(
        dict(state_dict=model().state_dict()),
        path,
        _use_new_zipfile_serialization=False,
    )


def mutate(content: bytes, dice: random.Random) -> bytes:
    """Cut, change, insert or delete something."""
    data = bytearray(content)
    where = dice.randrange(len(data))
    kind = dice.randrange(5)
    if kind == 0:
        del data[where:]
    elif kind == 1:
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
    elif kind == 2:
        data[where:where] = dice.randbytes(dice.randint(1, 9))
    elif kind == 3:
        del data[where : where + dice.randint(1, 9)]
    else:  # the beginning holds headers and pickles
        data[min(where, dice.randrange(3000))] ^= 1 << dice.randrange(8)
    return bytes(data)


@pytest.mark.parametrize(
    ('suffix', 'save', 'has_check_sums'),
    [
        ('.pth', save_training, True),
        ('.pt', save_torchscript, True),
        ('.safetensors', save_safetensors, False),
        ('.bin', save_before_torch_1_6, False),
    ],
)
@pytest.mark.parametrize('read', [read_checkpoint, read_state_dict])
def test_mutations(tmp_path, suffix, save, has_check_sums, read):
    source, path = tmp_path / f'source{suffix}', tmp_path / f'x{suffix}'
    save(source)
    content, wanted = source.read_bytes(), read_state_dict(source)
    dice = random.Random(0)
    outcomes = {True: 0, False: 0}
    for _ in range(NUM_MUTATIONS):
        path.write_bytes(mutate(content, dice))
        try:
            found = read(path)
        except CheckpointError:
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        if has_check_sums:  # then what is read is what was written
            tensors = found.get('state_dict', found)
            assert set(tensors) == set(wanted)
            for key, tensor in wanted.items():
                assert torch.equal(tensors[key], tensor)
    assert min(outcomes.values()) > 0
