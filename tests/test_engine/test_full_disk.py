"""A disk that is full ends a run with a reason and without a loss."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.test_engine.runs import TRAIN, assert_end_alike, write_config

# A small disk of our own: no other process sees it.
UNSHARE = ['unshare', '--user', '--map-root-user', '--mount']
DISK = 8 * 2**20
ON_A_SMALL_DISK = """
set -e
mkdir disk
mount -t tmpfs -o size={disk} tmpfs disk
head -c {filler} /dev/zero > disk/filler
if {train} >full.log 2>&1; then exit 1; fi
ls -A disk/killed >full.list
rm disk/filler
{train} >resumed.log 2>&1
mkdir killed
cp disk/killed/*.pth killed
"""


@pytest.mark.slow
def test_a_full_disk_costs_nothing_but_time(images, whole):
    if subprocess.run([*UNSHARE, 'true']).returncode != 0:
        pytest.skip('this system does not let us mount a small disk')
    write_config(images, 'epochs', 0)
    config = (images / 'config.py').read_text()
    config = config.replace('max_keep_ckpts=1', 'max_keep_ckpts=9')
    (images / 'config.py').write_text(config)
    size = (whole('epochs') / 'epoch_5.pth').stat().st_size
    script = ON_A_SMALL_DISK.format(
        disk=DISK,
        filler=DISK - int(3.5 * size),
        train=f'{sys.executable} {TRAIN} config.py --work-dir disk/killed '
        '--resume',
    )
    result = subprocess.run(
        [*UNSHARE, 'bash', '-c', script],
        cwd=images,
        env=os.environ | dict(PYTHONPATH=f'{images}:{REPOSITORY}'),
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    logs = [path.read_text()[-2000:] for path in images.glob('*.log')]
    assert result.returncode == 0, (result.stdout, *logs)
    log = (images / 'full.log').read_text()
    assert 'could not be written (No space left on device)' in log
    left = (images / 'full.list').read_text()
    assert 'epoch_1.pth' in left
    assert 'epoch_5.pth' not in left
    assert '.mmclip-tmp-' not in left
    assert 'Resume from' in (images / 'resumed.log').read_text()
    assert_end_alike(images / 'killed', whole('epochs'))
