"""Reading files of strangers in a child that has little time and memory."""

import os
import re
import resource
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmclip.checkpoint import CheckpointError

SECONDS = 10  # of a processor, for a file that takes milliseconds
MEMORY = 300 * 2**20  # beyond what the process has; the files have kilobytes


def outcomes(
    paths: Sequence[Path], use: Callable[[Path], Any], memory: int = MEMORY
) -> dict[str, str]:
    """What becomes of each file: ``read``, ``refused`` or what went wrong."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _limit_memory(memory)
            for path in paths:
                # Ends the child, wherever it is.
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                os.write(writable, f'{_outcome(path, use)}\n'.encode())
        finally:
            os._exit(0)
    os.close(writable)
    with open(readable) as file:
        words = file.read().splitlines()
    os.waitpid(child, 0)
    killed = ['killed'] * (len(paths) - len(words))
    return {
        path.name: word
        for path, word in zip(paths, words + killed, strict=True)
    }


def _limit_memory(memory: int) -> None:
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _outcome(path: Path, use: Callable[[Path], Any]) -> str:
    try:
        use(path)
    except CheckpointError as error:
        # The reader makes one sentence of a lack of memory, too.
        no_memory = re.search('MemoryError|alloc|mmap', str(error))
        return 'no memory' if no_memory else 'refused'
    except BaseException as error:
        return f'{type(error).__name__}: {error}'.replace('\n', ' ')
    return 'read'
