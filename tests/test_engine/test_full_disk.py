"""A disk that is full ends a run with a reason and without a loss."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import finish, start
from tests.test_engine.runs import TRAIN, assert_end_alike, write_config

# A small disk of our own: no other process sees it.
UNSHARE = ['unshare', '--user', '--map-root-user', '--mount']
DISK = 8 * 2**20
MOUNT = f'mount -t tmpfs -o size={DISK} tmpfs disk && echo mounted && cat'


# Trains where the disk is seen, as nsenter does.
ENTER = """
import ctypes, os, runpy, sys
_, holder, *sys.argv = sys.argv
folder = os.getcwd()
for kind in [os.open(f'/proc/{holder}/ns/{x}', 0) for x in ('user', 'mnt')]:
    assert ctypes.CDLL(None).setns(kind, 0) == 0
os.chdir(folder)
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture
def disk(images):
    """The process that holds the disk, and where others see it."""
    (images / 'disk').mkdir()
    (images / 'enter.py').write_text(ENTER)
    holder = subprocess.Popen(
        [*UNSHARE, 'sh', '-c', MOUNT],
        cwd=images,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if not holder.stdout.readline():
        pytest.skip('this system does not let us mount a small disk')
    yield holder.pid, Path(f'/proc/{holder.pid}/root{images}/disk')
    holder.communicate()


@pytest.mark.slow
def test_a_full_disk_costs_nothing_but_time(images, whole, disk):
    holder, disk = disk
    line = ('enter.py', holder, TRAIN, 'config.py', '--resume')
    line += ('--work-dir', 'disk/killed')
    env = os.environ | dict(PYTHONPATH=str(images))
    write_config(images, 'epochs', 0)
    config = (images / 'config.py').read_text()
    config = config.replace('max_keep_ckpts=1', 'max_keep_ckpts=9')
    (images / 'config.py').write_text(config)
    size = (whole('epochs') / 'epoch_5.pth').stat().st_size
    (disk / 'filler').write_bytes(bytes(DISK - int(3.5 * size)))
    run = start(*line, cwd=images, env=env)
    log, _ = run.communicate()
    assert run.returncode == 1, log
    assert 'could not be written (No space left on device)' in log
    left = os.listdir(disk / 'killed')
    assert 'epoch_1.pth' in left
    assert 'epoch_5.pth' not in left
    assert not [name for name in left if '.mmclip-tmp-' in name]
    (disk / 'filler').unlink()
    assert 'Resume from' in finish(start(*line, cwd=images, env=env))
    shutil.copytree(disk / 'killed', images / 'killed')
    assert_end_alike(images / 'killed', whole('epochs'))
