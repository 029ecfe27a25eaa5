"""What is written has the place and the mode that open() would give it."""

import os
import stat

import pytest
import torch

from mmclip.checkpoint import (
    CheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.checkpoint.towers.export import Export, write_export

WEIGHTS = dict(weight=torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize('mask', [0o000, 0o027, 0o077])
@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors', 'x.json'])
def test_modes_are_those_that_open_gives(tmp_path, mask, name):
    """safetensors writes files that nobody else can read."""
    path, old = tmp_path / name, tmp_path / f'old.{name}'
    before = os.umask(mask)
    try:
        for out in (path, old):
            if name == 'x.json':
                with atomic_file(out) as temporary:
                    temporary.write_text('{}')
            else:
                write_checkpoint(dict(state_dict=WEIGHTS), out)
            if out is old:
                old.chmod(0o640)
                write_checkpoint(dict(state_dict=WEIGHTS), old)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


@pytest.mark.parametrize('exists', [True, False])
def test_links_are_written_through(tmp_path, exists):
    link, target = tmp_path / 'link.pth', tmp_path / 'elsewhere' / 'x.pth'
    target.parent.mkdir()
    if exists:
        target.write_text('old')
    link.symlink_to(target)
    write_checkpoint(WEIGHTS, link)
    assert link.is_symlink()
    assert list(read_checkpoint(target)) == ['weight']
    assert sorted(tmp_path.rglob('*')) == [target.parent, target, link]


def test_a_folder_of_links_is_not_written_to(tmp_path):
    """Such as one of the hub's cache, whose targets others share."""
    exported = Export(WEIGHTS, usage='', files={'config.json': {}})
    out, blob = tmp_path / 'out', tmp_path / 'blob'
    write_export(exported, out)
    assert sorted(os.listdir(out)) == ['config.json', 'model.safetensors']
    for name in os.listdir(out):
        (out / name).rename(blob)
        (out / name).symlink_to(blob)
        before = blob.read_bytes()
        with pytest.raises(CheckpointError, match='to another folder'):
            write_export(exported, out)
        assert blob.read_bytes() == before
        blob.rename(out / name)
