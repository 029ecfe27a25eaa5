"""Python programs that start in a second or two instead of seven.

They run in processes forked from one that has imported other packages, which
takes most of that time. mmclip and those of OpenMMLab are not among them, so
programs import and register these as users' do.
"""

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

PRELOADED = [
    'matplotlib.pyplot',
    'pandas',
    'scipy.interpolate',
    'scipy.ndimage',
    'sklearn.mixture',
    'timm',
    'torchvision.models',
]
SETTINGS = dict(OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
TIMEOUT = 300  # seconds
forking = multiprocessing.get_context('forkserver')


def prepare() -> None:
    """Say what will be imported; the first program starts it."""
    os.environ.update(SETTINGS)
    forking.set_forkserver_preload(PRELOADED)


def run(words: list[str], folder: Path, log: Path) -> int:
    """Run Python with these words in a folder, and return its exit code.

    Args:
        words (list[str]): A file, ``-m`` and a module, or ``-c`` and code,
            with their arguments.
        folder (Path): Where it runs.
        log (Path): Gets what it prints.
    """
    process = forking.Process(target=_run, args=(words, folder, log, _path()))
    process.start()
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f'{words} ran longer than {TIMEOUT} s')
    return process.exitcode


def _run(words: list[str], folder: Path, log: Path, path: list[str]) -> None:
    with log.open('w') as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.chdir(folder)
    kind, *arguments = words
    if kind in ('-c', '-m'):
        code, *arguments = arguments
        sys.argv, sys.path = [kind, *arguments], [str(folder), *path]
        if kind == '-c':
            exec(code, dict(__name__='__main__'))
        else:
            runpy.run_module(code, run_name='__main__', alter_sys=True)
    else:
        sys.argv, sys.path = words, [str(Path(kind).parent), *path]
        runpy.run_path(kind, run_name='__main__')


def _path() -> list[str]:
    """Return where Python looks for packages, without pytest's additions."""
    code = 'import json, sys; print(json.dumps(sys.path))'
    words = [sys.executable, '-P', '-c', code]  # -P: not where it runs
    return json.loads(subprocess.check_output(words))
