"""Python programs that start at once, in processes like any others.

An interpreter takes seconds to import torch, mmpretrain and mmclip. Here one
process, the server, imports them once, and forks for every program that a
test starts. The program leads a process group of its own; arguments, folder,
environment, signals and exit code are those of any interpreter. Only what
libraries read from the environment while they are imported is the server's:
to test that (Hugging Face's folders, for one), start an interpreter.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, TextIO

# What programs import, beside all of mmclip.
MODULES = [
    *('matplotlib.pyplot', 'open_clip', 'scipy.optimize', 'sklearn', 'timm'),
    *('mmengine.runner', 'mmengine.visualization', 'mmengine._strategy'),
    *('mmpretrain.apis', 'mmpretrain.engine', 'mmpretrain.visualization'),
    *('torch.distributed.run', 'torch.distributed.fsdp', 'transformers'),
]
LONGEST_REQUEST = 2**17


class Process:
    """A program that runs, with the methods of ``subprocess.Popen``.

    The number of its process group is ``pid``, and ``stdout`` has all that it
    writes.
    """

    def __init__(self, pid: int, status: TextIO, stdout: TextIO):
        self.pid, self.stdout = pid, stdout
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Return the exit code, or None as long as the program runs."""
        if self.returncode is None:
            if not select.select([self._status], [], [], 0)[0]:
                return None
            self.wait()
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        """Wait for the end, and kill the group if it takes too long.

        Returns:
            int: The exit code, or minus the number of the signal.
        """
        late = threading.Timer(timeout, os.killpg, [self.pid, signal.SIGKILL])
        late.start()
        try:
            if self.returncode is None:
                self.returncode = int(self._status.readline())
        finally:
            late.cancel()
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, None]:
        """Wait as :meth:`wait`; returns the rest of the output, and None."""
        late = threading.Timer(timeout, os.killpg, [self.pid, signal.SIGKILL])
        late.start()
        try:
            return self.stdout.read(), None
        finally:
            late.cancel()
            self.wait()

    def send_signal(self, number: int) -> None:
        """Send a signal to the program, not to its group."""
        os.kill(self.pid, number)


def start(
    *argv: str | Path,
    cwd: str | Path,
    env: Mapping[str, str] = os.environ,
    ranks: int = 0,
) -> Process:
    """Start a program.

    Args:
        argv (str | Path): A Python file, or ``-m`` and a module, and the
            arguments.
        cwd (str | Path): Where it runs.
        env (Mapping[str, str]): Its environment.
        ranks (int): If not 0, so many processes of a distributed run. The
            first that fails ends the others, as under torchrun; ``pid`` is
            the one that waits for all.
    """
    request = dict(
        argv=[str(argument) for argument in argv],
        cwd=str(cwd),
        env=dict(env),
        ranks=ranks,
    )
    reading, output = os.pipe()
    status, reporting = os.pipe()
    message = json.dumps(request).encode()
    socket.send_fds(_server(), [message], [output, reporting])
    os.close(output)
    os.close(reporting)
    lines = os.fdopen(status)
    return Process(int(lines.readline()), lines, os.fdopen(reading))


def finish(run: Process | subprocess.Popen, timeout: float = 300) -> str:
    """Wait for the end of a run; returns its log."""
    log, _ = run.communicate(timeout=timeout)
    assert run.returncode == 0, log
    return log


def free_port() -> str:
    """A port of this machine that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


@functools.cache
def _server() -> socket.socket:
    """Start the server, which ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    subprocess.Popen(
        [
            *(sys.executable, '-u', '-W', 'ignore:Fail to import'),
            *(__file__, str(theirs.fileno())),
        ],
        env=os.environ
        | dict(OMP_NUM_THREADS='1')
        # Asking for GPUs would otherwise initialise what no fork survives.
        | dict(PYTORCH_NVML_BASED_CUDA_CHECK='1'),
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST_REQUEST)
    return ours


# Programs, and what needs packages that the tests do not.
NOT_HERE = ('__main__', 'zero_shot_seg_head')


def import_everything() -> None:
    """Import what programs do, and nothing more: no thread may start."""
    import mmclip

    for name in MODULES:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(mmclip.__path__, 'mmclip.'):
        if not module.name.endswith(NOT_HERE):
            importlib.import_module(module.name)


def serve(requests: socket.socket) -> list[str]:
    """Answer requests; returns in each program, with its command line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaps by itself
    while True:
        message, (*files,), *_ = socket.recv_fds(requests, LONGEST_REQUEST, 2)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests.close()
    output, status = files
    pid = os.fork()
    if pid != 0:
        os.close(output)
        os.write(status, f'{pid}\n'.encode())
        _, code = os.waitpid(pid, 0)
        os.write(status, f'{os.waitstatus_to_exitcode(code)}\n'.encode())
        os._exit(0)
    os.close(status)
    return _become(output, **json.loads(message))


def _become(
    output: int, argv: list[str], cwd: str, env: dict[str, str], ranks: int
) -> list[str]:
    """Be a program of its own."""
    os.setsid()
    for descriptor in 1, 2:
        os.dup2(output, descriptor)
    os.close(output)
    os.chdir(cwd)
    ours = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    os.environ.clear()
    os.environ.update(env)
    if ranks:
        _fork_ranks(ranks)
    theirs = env.get('PYTHONPATH', '').split(os.pathsep)
    first = cwd if argv[0] == '-m' else os.path.dirname(argv[0])
    rest = [place for place in sys.path[1:] if place not in ours]
    sys.path[:] = [first, *filter(None, theirs), *rest]
    random.seed()  # which each interpreter does
    sys.modules['numpy'].random.seed()
    return argv


def _fork_ranks(number: int) -> None:
    """Return in each rank."""
    port = free_port()
    running = set()
    for rank in range(number):
        pid = os.fork()
        if pid == 0:
            os.environ.update(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(number),
                LOCAL_WORLD_SIZE=str(number),
                MASTER_ADDR='127.0.0.1',
                MASTER_PORT=port,
            )
            return
        running.add(pid)
    for heard in 'INT', 'TERM', 'USR1', 'HUP':  # by the ranks
        signal.signal(signal.Signals[f'SIG{heard}'], signal.SIG_IGN)
    first = 0
    while running:
        pid, status = os.wait()
        running.remove(pid)
        code = os.waitstatus_to_exitcode(status)
        if code and not first:
            first = code if code > 0 else 128 - code
            for other in running:
                os.kill(other, signal.SIGTERM)
    os._exit(first)


def run(argv: list[str]) -> NoReturn:
    """Run a program, and end as the interpreter does.

    But for taking the modules down, which takes longer than most programs.
    """
    code, is_interrupted = 1, False
    try:
        if argv[0] == '-m':
            sys.argv = argv[1:]
            runpy.run_module(argv[1], run_name='__main__', alter_sys=True)
        else:
            sys.argv = argv
            runpy.run_path(argv[0], run_name='__main__')
        code = 0
    except SystemExit as exit_:
        if exit_.code is None or isinstance(exit_.code, int):
            code = exit_.code or 0
        else:
            print(exit_.code, file=sys.stderr)
    except BaseException as error:
        traceback.print_exc()
        is_interrupted = isinstance(error, KeyboardInterrupt)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if is_interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    os._exit(code)


if __name__ == '__main__':
    import_everything()
    gc.collect()
    gc.freeze()
    run(serve(socket.socket(fileno=int(sys.argv[1]))))
