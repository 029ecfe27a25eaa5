"""Programs that the server forks are like those of an interpreter."""

import os
import signal
import subprocess
import sys

import pytest

from tests.processes import finish, start

PROGRAM = """
import atexit, os, signal, sys
import helper
print(sys.argv[1:], os.getcwd(), os.environ.get('WORD'), helper.WORD)
print(len(os.listdir('/proc/self/task')), 'torch' in sys.modules)
os.system('echo from a child')
sys.stderr.write('from stderr ')
atexit.register(print, 'at the end')
{end}
"""
ENDS = {
    'pass': 0,
    'sys.exit()': 0,
    'sys.exit(3)': 3,
    'sys.exit("error: a reason")': 1,
    'raise ValueError("a reason")': 1,
    'raise KeyboardInterrupt': -signal.SIGINT,
    'os._exit(7)': 7,
    'os.abort()': -signal.SIGABRT,
    'os.kill(os.getpid(), signal.SIGTERM)': -signal.SIGTERM,
    'atexit.register(os.abort)': -signal.SIGABRT,
    'signal.raise_signal(signal.SIGHUP)': -signal.SIGHUP,
}


@pytest.mark.parametrize('is_forked', [True, False])
@pytest.mark.parametrize('end', ENDS)
def test_a_program_ends_as_in_an_interpreter(tmp_path, end, is_forked):
    (tmp_path / 'modules').mkdir()
    (tmp_path / 'modules' / 'helper.py').write_text('WORD = "found"\n')
    environment = os.environ | dict(
        WORD='given',
        PYTHONPATH=str(tmp_path / 'modules'),
        PYTHONUNBUFFERED='1',
    )
    (tmp_path / 'program.py').write_text(PROGRAM.format(end=end))
    line = ('program.py', 'a', 'b c')
    if is_forked:
        run = start(*line, cwd=tmp_path, env=environment)
    else:
        run = subprocess.Popen(
            [sys.executable, *line],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    log, _ = run.communicate()
    assert run.returncode == run.poll() == run.wait() == ENDS[end]
    assert f"['a', 'b c'] {tmp_path} given found\n1 {is_forked}\n" in log
    assert 'from a child\nfrom stderr' in log
    assert ('a reason' in log) == ('a reason' in end)
    assert ('at the end' in log) == ('os.' not in end and 'al.' not in end)


def test_a_module_is_a_program_too(tmp_path):
    (tmp_path / 'package').mkdir()
    (tmp_path / 'package' / '__main__.py').write_text(
        'import sys\nprint(__name__, sys.argv)\n'
    )
    log = finish(start('-m', 'package', 'a', cwd=tmp_path))
    assert log.startswith("__main__ ['")
    assert log.endswith("package/__main__.py', 'a']\n")


WAIT = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(5))
child = os.fork()
if child:
    print('ready', flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ('send', 'number', 'code'),
    [
        (os.kill, signal.SIGUSR1, 5),
        (os.kill, signal.SIGTERM, -signal.SIGTERM),
        (os.killpg, signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_signals_reach_a_process_or_its_group(tmp_path, send, number, code):
    (tmp_path / 'wait.py').write_text(WAIT)
    run = start('wait.py', cwd=tmp_path)
    assert run.stdout.readline() == 'ready\n'
    assert run.poll() is None
    send(run.pid, number)
    assert run.wait() == code
    if send == os.kill:
        os.killpg(run.pid, signal.SIGKILL)  # the child
    assert run.communicate()[0] == ''


def test_a_program_that_hangs_is_killed(tmp_path):
    (tmp_path / 'wait.py').write_text(WAIT)
    run = start('wait.py', cwd=tmp_path)
    run.communicate(timeout=0.1)
    assert run.returncode == -signal.SIGKILL


RANKS = """
import os, sys, time
import torch.distributed as dist
dist.init_process_group('gloo')
ranks = [None, None]
dist.all_gather_object(ranks, (dist.get_rank(), os.environ['LOCAL_RANK']))
print(ranks, flush=True)
if len(sys.argv) == 2 and dist.get_rank() == 1:
    os._exit(int(sys.argv[1]))
if len(sys.argv) == 2:
    time.sleep(600)
dist.destroy_process_group()
"""


def test_ranks_find_one_another(tmp_path):
    (tmp_path / 'ranks.py').write_text(RANKS)
    log = finish(start('ranks.py', cwd=tmp_path, ranks=2))
    assert log.count("[(0, '0'), (1, '1')]") == 2  # lines of two may mix


def test_a_rank_that_fails_ends_the_others(tmp_path):
    (tmp_path / 'ranks.py').write_text(RANKS)
    run = start('ranks.py', '7', cwd=tmp_path, ranks=2)
    assert run.wait() == 7
