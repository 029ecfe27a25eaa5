"""A process that dies takes the others with it, and the reason is said."""

import os
import re
import subprocess
import sys
import time

import pytest

from tests.conftest import REPOSITORY
from tests.processes import free_port
from tests.test_engine.runs import write_config

DIST_TRAIN = REPOSITORY / 'tools' / 'dist_train.sh'
SECONDS = 60  # in which all must have ended
# At the third iteration (two are an epoch) rank 1 says so and dies.
DIE = """
import os, signal, sys
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Die(Hook):
    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 2 and os.environ['RANK'] == '1':
            print('dying', flush=True)
            self.die(runner.model.module)

    def die(self, model):
        {how}
"""
WAYS = {
    'killed': (
        'os.kill(os.getpid(), signal.SIGKILL)',
        'error: rank 1 was killed by SIGKILL',
    ),
    'not a number': (
        'model.head.fc.weight.data.fill_(torch.nan)',
        'error: The loss is nan at epoch 2, iteration 3',
    ),
    'exit': ('os._exit(7)', r'failed \(exitcode: 7\) local_rank: 1'),
    'aborted on its way out': (
        "import atexit; atexit.register(os.abort); raise RuntimeError('lost')",
        'RuntimeError: lost',
    ),
}


def start(
    folder, how, processes, settings='', **environment
) -> subprocess.Popen:
    write_config(folder, 'epochs', workers=0)
    (folder / 'die.py').write_text(DIE.format(how=how))
    config = folder / 'dying.py'
    config.write_text(
        "_base_ = ['./config.py']\n"
        "custom_imports = dict(imports=['disturb', 'die'])\n"
        f"default_hooks = dict(die=dict(type='Die'))\n{settings}"
    )
    command = ['bash', DIST_TRAIN, config.name, str(processes)]
    return subprocess.Popen(
        [*command, '--work-dir', 'run'],
        cwd=folder,
        env=os.environ
        | dict(PYTHON=sys.executable, PYTHONPATH=f'{folder}:{REPOSITORY}')
        | dict(OMP_NUM_THREADS='1')
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def seconds_to_end(run: subprocess.Popen) -> tuple[float, str]:
    """From the death of rank 1 to the end of the command, and the log."""
    log = ''
    for line in run.stdout:
        log += line
        if 'dying' in line:
            break
    died = time.monotonic()
    log += run.communicate(timeout=2 * SECONDS)[0]
    assert 'dying' in log, log
    return time.monotonic() - died, log


RARE = ['not a number', 'exit', 'aborted on its way out']


@pytest.mark.slow
@pytest.mark.parametrize(
    'way',
    [
        pytest.param(way, marks=[pytest.mark.exhaustive] * (way in RARE))
        for way in WAYS
    ],
)
def test_the_others_end_and_the_reason_is_said(images, way):
    how, reason = WAYS[way]
    run = start(images, how, 2, PORT=free_port())
    seconds, log = seconds_to_end(run)
    assert run.returncode == (7 if way == 'exit' else 1)
    assert seconds < SECONDS
    assert re.search(reason, log), log
    errors = [x for x in log.splitlines() if x.startswith('error: ')]
    assert len(errors) == reason.startswith('error: '), errors


@pytest.mark.exhaustive
def test_another_machine_ends_too(images):
    """Two launchers of one process each, as on two machines."""
    how, reason = WAYS['killed']
    shared = dict(NNODES='2', PORT=free_port(), MASTER_ADDR='127.0.0.1')
    first = start(images, how, 1, NODE_RANK='0', **shared)
    second = start(images, how, 1, NODE_RANK='1', **shared)
    seconds, log = seconds_to_end(second)
    first.communicate(timeout=2 * SECONDS)
    assert seconds < SECONDS
    assert first.returncode == second.returncode == 1
    assert reason in log
