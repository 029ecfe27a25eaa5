"""The job scripts of docs/distributed.md, with stand-ins for Slurm."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.test_engine.runs import assert_end_alike, raised, write_config

SCRIPT = re.compile(r'```shell\n(#!/bin/bash\n.*?)```', re.DOTALL)
# Two tasks, with the variables of torchrun instead of Slurm's, since mmengine
# has the latter select a GPU. As slurmstepd does, it notes its tasks.
SRUN = f"""#!{sys.executable}
import os, socket, subprocess, sys
command = [a for a in sys.argv[1:] if not a.startswith('--kill-on')]
command[command.index('slurm')] = 'pytorch'
with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    port = str(probe.getsockname()[1])
shared = dict(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
tasks = [
    subprocess.Popen(
        command, env=os.environ | shared | dict(RANK=rank, LOCAL_RANK=rank)
    )
    for rank in '01'
]
with open('tasks', 'w') as file:
    print(*(task.pid for task in tasks), file=file)
sys.exit(max([task.wait() for task in tasks]))
"""
SCONTROL = '#!/bin/bash\necho "$@" >> scontrol.log\n'
PYTHON = f'#!/bin/bash\nexec {sys.executable} "$@"\n'


def install(folder: Path, **programs: str) -> None:
    folder.mkdir()
    for name, text in programs.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)


def sbatch(folder: Path, script: str, is_told: bool) -> int:
    """Run a job, in which Slurm may tell that its time is over soon."""
    (folder / 'scontrol.log').unlink(missing_ok=True)
    job = subprocess.Popen(
        ['bash', '-c', script],
        cwd=folder,
        env=os.environ
        | dict(PATH=f'{folder / "bin"}:{os.environ["PATH"]}')
        | dict(PYTHONPATH=f'{folder}:{REPOSITORY}', OMP_NUM_THREADS='1')
        | dict(PYTHON=sys.executable, SLURM_JOB_ID='4711'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = ''
    for line in job.stdout:
        log += line
        if '(train)' in line:
            break
    if is_told:
        (asked,) = re.findall(r'--signal=(\S*)USR1@120', script)
        pids = [job.pid]
        if asked != 'B:':
            pids = map(int, (folder / 'tasks').read_text().split())
        for pid in pids:
            os.kill(pid, signal.SIGUSR1)
    log += job.communicate(timeout=300)[0]
    assert not raised(log), log
    assert ('Interrupted by SIGUSR1; writing iter_' in log) == is_told, log
    return job.returncode


@pytest.mark.slow
def test_a_job_is_requeued_until_it_is_done(images, whole):
    """Told by Slurm itself, then by way of the script, then not."""
    write_config(images, 'mid-epoch', 2)
    install(images / 'bin', srun=SRUN, scontrol=SCONTROL, python=PYTHON)
    page = (REPOSITORY / 'docs' / 'distributed.md').read_text()
    page = page.replace('CONFIG 8', 'CONFIG 2').replace('CONFIG', 'config.py')
    page = page.replace('tools/', f'{REPOSITORY}/tools/')
    of_srun, of_launcher = SCRIPT.findall(page)
    for script in of_srun, of_launcher:
        assert sbatch(images, script, is_told=True) == 138
        asked = (images / 'scontrol.log').read_text()
        assert asked == 'requeue 4711\n'
    assert sbatch(images, of_srun, is_told=False) == 0
    assert not (images / 'scontrol.log').exists()
    run = images / 'work_dirs' / 'config'
    assert_end_alike(run, whole('mid-epoch', 2))
