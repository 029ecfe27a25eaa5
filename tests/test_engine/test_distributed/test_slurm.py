"""The job scripts of docs/distributed.md, with stand-ins for Slurm."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import REPOSITORY
from tests.test_engine.runs import assert_end_alike, raised, write_config

SCRIPT = re.compile(r'```shell\n(#!/bin/bash\n.*?)```', re.DOTALL)
# Starts srun's two tasks, and notes their group; or the launcher's, to which
# it hands on what it is told, as that does (test_launch.py).
PROGRAM = f"""#!{sys.executable}
import os, signal, socket, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from tests import processes
server = socket.socket(fileno=int(os.environ['SERVER']))
processes._server = lambda: server
words = sys.argv[1:]
tool = next(i for i, word in enumerate(words) if word.endswith('train.py'))
words = ['pytorch' if word == 'slurm' else word for word in words[tool:]]
run = processes.start(*words, cwd=os.getcwd(), ranks=2)
signal.signal(signal.SIGUSR1, lambda number, _: os.killpg(run.pid, number))
with open('tasks', 'w') as file:
    print(run.pid, file=file)
for line in run.stdout:
    print(line, end='', flush=True)
sys.exit(run.wait())
"""
SCONTROL = '#!/bin/bash\necho "$@" >> scontrol.log\n'


def install(folder: Path, **programs: str) -> None:
    folder.mkdir()
    for name, text in programs.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)


def sbatch(folder: Path, script: str, is_told: bool) -> int:
    """Run a job, in which Slurm may tell that its time is over soon."""
    (folder / 'scontrol.log').unlink(missing_ok=True)
    server = processes._server()
    job = subprocess.Popen(
        ['bash', '-c', script],
        cwd=folder,
        env=os.environ
        | dict(PATH=f'{folder / "bin"}:{os.environ["PATH"]}')
        | dict(PYTHONPATH=str(folder), SLURM_JOB_ID='4711')
        | dict(PAUSE='0.05' if is_told else '0')
        | dict(PYTHON='srun', SERVER=str(server.fileno())),
        pass_fds=[server.fileno()],
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
        if asked == 'B:':
            job.send_signal(signal.SIGUSR1)
        else:
            os.killpg(int((folder / 'tasks').read_text()), signal.SIGUSR1)
    log += job.communicate(timeout=300)[0]
    assert not raised(log), log
    assert ('Interrupted by SIGUSR1; writing iter_' in log) == is_told, log
    return job.returncode


@pytest.mark.slow
def test_a_job_is_requeued_until_it_is_done(images, whole):
    """Told by Slurm itself, then by way of the script, then not."""
    write_config(images, 'mid-epoch', 2)
    install(images / 'bin', srun=PROGRAM, scontrol=SCONTROL)
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
