"""Each file is opened once and read once, whoever reads it."""

import ctypes
import logging
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import CheckpointLoader
from safetensors import safe_open

from mmclip.averaging.average import average, read_weights
from mmclip.checkpoint import (
    CheckpointError,
    convert_source,
    open_weights,
    read_checkpoint,
    read_state_dict,
    write_checkpoint,
)
from mmclip.checkpoint.towers.inspect import inspect_weights
from mmclip.engine.resume.find_checkpoint import find_newest_checkpoint

pytestmark = [
    pytest.mark.skipif(sys.platform != 'linux', reason='inotify is of Linux'),
    pytest.mark.filterwarnings('ignore:.*torch.jit'),
    pytest.mark.filterwarnings('ignore:Converting a tensor to a Python'),
]
# Of inotify(7). Those of one kind that follow one another are one event, so
# that what comes between two openings is watched, too.
READ, CLOSED, OPENED = 0x1, 0x8 | 0x10, 0x20
# Of what is read twice: directories and pickles.
SLACK = 1.2


@contextmanager
def counted(*paths: Path) -> Iterator[Callable[[], list[int]]]:
    """Count how often files are opened, by whatever library."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    assert handle >= 0, os.strerror(ctypes.get_errno())
    watched = [
        libc.inotify_add_watch(
            handle, os.fsencode(path), READ | CLOSED | OPENED
        )
        for path in paths
    ]

    def opens() -> list[int]:
        events = struct.iter_unpack('iIII', os.read(handle, 2**20))
        seen = [watch for watch, mask, *_ in events if mask & OPENED]
        return [seen.count(watch) for watch in watched]

    try:
        yield opens
    finally:
        os.close(handle)


def bytes_read() -> int:
    """By this process so far, but for what is mapped."""
    content = Path('/proc/self/io').read_text()
    return int(content.partition('rchar: ')[2].partition('\n')[0])


def save_legacy(path: Path, model: Any) -> None:
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)


def save_script(path: Path, model: Any) -> None:
    traced = torch.jit.trace(
        model.visual, torch.zeros(1, 3, 32, 32), check_trace=False
    )
    program = torch.nn.Module()
    program.visual = traced
    torch.jit.script(program).save(str(path))


SAVE: dict[str, Callable[[Path, Any], None]] = {
    'torch': lambda path, model: torch.save(model.state_dict(), path),
    'torch before 1.6': save_legacy,
    'TorchScript': save_script,
    'safetensors': lambda path, model: write_checkpoint(
        dict(state_dict=model.state_dict()), path.with_suffix('.safetensors')
    ),
}
READERS: dict[str, Callable[[Path, Path], Any]] = {
    'read_checkpoint': lambda path, config: read_checkpoint(path),
    'read_state_dict': lambda path, config: dict(read_state_dict(path)),
    'both': lambda path, config: [
        dict(weights := open_weights(path)),
        weights.meta,
        weights.read(),
    ],
    'mmengine': lambda path, config: CheckpointLoader.load_checkpoint(
        str(path)
    ),
    'averaging': lambda path, config: read_weights(path),
    'inspecting': lambda path, config: inspect_weights(path),
    'converting': lambda path, config: convert_source(str(config), str(path)),
}


@pytest.mark.parametrize('kind', SAVE)
def test_whoever_reads_a_file_opens_it_once(tmp_path, tiny_model, kind):
    SAVE[kind](tmp_path / 'x.pt', tiny_model.model)
    (path,) = tmp_path.glob('x.*')
    # By its name, and once more what is open, to map it.
    wanted = 1 if kind == 'torch before 1.6' else 2
    if kind == 'safetensors':  # its library opens what is open itself
        with counted(path) as opens:
            safe_open(path, framework='pt')
            wanted = 1 + opens()[0]
    assert open_weights(path).kind == kind
    for name, read in READERS.items():
        with counted(path) as opens:
            read(path, tiny_model.config)
            assert opens() in ([wanted], [1]), name


def test_two_openings_are_counted(tmp_path):
    torch.save(dict(w=torch.zeros(1)), tmp_path / 'x.pth')
    with counted(tmp_path / 'x.pth') as opens:
        read_checkpoint(tmp_path / 'x.pth')
        torch.UntypedStorage.from_file(str(tmp_path / 'x.pth'), False, 4)
        assert opens() == [2]


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_checkpoints_that_are_averaged_hold_no_descriptors(tmp_path, suffix):
    paths = [tmp_path / f'{i}.{suffix}' for i in range(9)]
    for i, path in enumerate(paths):
        weights = dict(w=torch.full((4,), float(i)))
        write_checkpoint(dict(state_dict=weights), path)
    before = os.listdir('/proc/self/fd')
    soup = [read_weights(path)['state_dict'] for path in paths]
    assert len(os.listdir('/proc/self/fd')) == len(before)
    assert torch.equal(average(soup)['w'], torch.full((4,), 4.0))


@pytest.mark.parametrize('kind', SAVE)
def test_only_what_was_opened_is_read(tmp_path, tiny_model, kind):
    """A file may be replaced or deleted meanwhile, but not be written to."""
    SAVE[kind](tmp_path / 'x.pt', tiny_model.model)
    (path,) = tmp_path.glob('x.*')
    weights = open_weights(path)
    held = tiny_model.model.state_dict()
    held = {key: held[key] for key in weights}
    content = path.read_bytes()
    path.unlink()
    assert all(torch.equal(weights[key], held[key]) for key in held)
    path.write_bytes(content)
    assert all(torch.equal(weights[key], held[key]) for key in held)
    weights = open_weights(path)
    with open(path, 'r+b') as file:  # of the same size
        file.seek(path.stat().st_size // 2)
        file.write(b'else')
    for use in (weights.read, lambda: dict(weights)):
        with pytest.raises(CheckpointError, match='was written to'):
            use()


@pytest.mark.parametrize('name', ['read_checkpoint', 'read_state_dict'])
def test_a_file_is_read_once(tmp_path, name):
    path = tmp_path / 'x.pth'
    torch.save(dict(w=torch.randn(2**20)), path)
    before = bytes_read()
    READERS[name](path, path)
    assert bytes_read() - before < SLACK * path.stat().st_size


def test_a_resume_opens_each_checkpoint_once(tmp_path):
    """To choose the newest, to check it and to load it."""
    for epoch in (1, 2):
        meta = dict(
            epoch=epoch, iter=epoch, time='20260101_000000', written=epoch
        )
        weights = {'w': torch.randn(2**20)}
        torch.save(
            dict(meta=meta, state_dict=weights, optimizer={}, message_hub={}),
            tmp_path / f'epoch_{epoch}.pth',
        )
    paths = sorted(tmp_path.glob('*.pth'))
    before = bytes_read()
    with counted(*paths) as opens:
        found = find_newest_checkpoint(
            tmp_path, None, logging.getLogger('test')
        )
        loaded = CheckpointLoader.load_checkpoint(found, 'cpu')
        assert opens() == [2, 2]  # by name, and to map it
    assert bytes_read() - before < SLACK * paths[1].stat().st_size
    assert found == str(paths[1])
    assert torch.equal(loaded['state_dict']['w'], weights['w'])
    # Who loads it once more reads what is there now.
    torch.save(dict(meta={}), paths[1])
    assert CheckpointLoader.load_checkpoint(found) == dict(meta={})
