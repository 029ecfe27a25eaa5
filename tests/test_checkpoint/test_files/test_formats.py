"""Formats, by content; indices of several files; and what is not a file."""

import json
import os
import socket

import pytest
import torch

from mmclip.checkpoint import (
    CheckpointError,
    open_weights,
    read_checkpoint,
    read_state_dict,
    write_checkpoint,
)

WEIGHTS = dict(weight=torch.arange(6.0).reshape(2, 3))


def special(path, kind):
    """A file that is none."""
    if kind == 'folder':
        path.mkdir()
    elif kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'socket':
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.symlink_to('/dev/zero')
    return path


specials = pytest.mark.parametrize(
    'kind', ['folder', 'pipe', 'socket', 'device']
)


@specials
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_what_is_not_a_file_is_refused_at_once(
    tmp_path, monkeypatch, kind, suffix
):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    path = special(tmp_path.joinpath('x').with_suffix(suffix), kind)
    what = 'a folder' if kind == 'folder' else 'not a regular file'
    with pytest.raises(CheckpointError, match=what):
        read_checkpoint(path)
    if kind != 'folder':
        with pytest.raises(CheckpointError, match='not a regular file'):
            read_state_dict(path)
    with pytest.raises(OSError, match='not a regular file'):
        write_checkpoint(WEIGHTS, path)


@specials
@pytest.mark.parametrize('library', ['model.safetensors', 'pytorch_model.bin'])
def test_an_index_names_files_beside_it(tmp_path, kind, library):
    path = tmp_path / f'{library}.index.json'
    name = f'shard.{library.rpartition(".")[2]}'
    for wrong in ('..', '.', '', '/etc/passwd', '../x', 'none', name):
        if wrong == name:
            special(tmp_path / name, kind)
        path.write_text(json.dumps(dict(weight_map=dict(w=wrong))))
        for start in (path, tmp_path):
            with pytest.raises(CheckpointError, match='not in its folder'):
                read_state_dict(start)


def test_shards_of_torch_files(tmp_path):
    """As transformers names them."""
    weights = {'a': torch.ones(1), 'b': torch.zeros(2), 'c': torch.ones(3)}
    names = dict(a='1.bin', b='2.bin', c='1.bin')
    for name in set(names.values()):
        part = {key: weights[key] for key in names if names[key] == name}
        torch.save(part, tmp_path / name)
    index = tmp_path / 'pytorch_model.bin.index.json'
    index.write_text(json.dumps(dict(metadata={}, weight_map=names)))
    for path in (index, tmp_path):
        found = read_state_dict(path)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], weights[key]) for key in weights)


@pytest.mark.parametrize('zipped', [True, False])
def test_the_content_says_the_format(tmp_path, zipped):
    """Whatever the suffix says."""
    torchs, safe = tmp_path / 'x.safetensors', tmp_path / 'y.safetensors'
    torch.save(WEIGHTS, torchs, _use_new_zipfile_serialization=zipped)
    kind = 'mmclip.CLIPVisionTransformer'
    clip = dict(backbone=dict(type=kind, arch='base', act='gelu'))
    write_checkpoint(dict(meta=dict(clip=clip), state_dict=WEIGHTS), safe)
    assert list(read_checkpoint(torchs)) == ['weight']
    assert list(read_state_dict(torchs)) == ['weight']
    for suffix in ('.pth', '.pt', '.bin', '.ckpt'):
        safe = safe.rename(safe.with_suffix(suffix))
        assert read_checkpoint(safe)['meta'] == dict(clip=clip)
        assert open_weights(safe).clip['backbone'] == clip['backbone']
        assert list(read_state_dict(safe)) == ['weight']


@pytest.mark.parametrize('shift', range(8))
def test_tensors_of_safetensors_are_aligned(tmp_path, shift):
    path, values = tmp_path / 'x.safetensors', torch.arange(6).to(torch.cfloat)
    entry = dict(dtype='C64', shape=[6], data_offsets=[0, 48])
    header = json.dumps(dict(w=entry)).encode()
    header += b' ' * (-len(header) % 8 + shift)
    start = len(header).to_bytes(8, 'little')
    path.write_bytes(start + header + values.numpy().tobytes())
    found = read_state_dict(path)['w']
    assert torch.equal(found, values)
    assert found.data_ptr() % 8 == 0
