"""A short screen and a full log."""

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from types import FrameType
from typing import Any

from mmclip.errors import EXPECTED


@contextmanager
def log_to(
    path: Path, *, verbose: bool = False
) -> Iterator[Callable[[str], None]]:
    """Write what is logged to a file, and only warnings to the screen.

    Python's own warnings go to the file alone. Nothing is written until the
    folder of the file exists, so a run that never begins leaves nothing
    behind. Errors are logged too, those that are bugs with their traceback.

    Args:
        path (Path): The file, to which lines are added.
        verbose (bool): Whether the screen shows everything. Defaults to
            False.

    Yields:
        Callable: Prints a line, and logs it.
    """
    from mmengine.logging import MMLogger

    logger = MMLogger.get_instance(
        f'mmclip {time.time()}', logger_name='mmclip', log_level='INFO'
    )
    before = [handler.level for handler in logger.handlers]
    if not verbose:
        for handler in logger.handlers:
            handler.setLevel(logging.WARNING)
    file = _FileInFolder(path)
    logger.addHandler(file)
    python = logging.getLogger('py.warnings')
    python.addHandler(file)
    python.propagate = verbose

    def log(level: int, text: str, trace: Any = None) -> None:
        file.handle(
            logging.LogRecord('mmclip', level, '', 0, text, None, trace)
        )

    def say(text: str) -> None:
        print(text, flush=True)
        log(logging.INFO, text)

    try:
        with warnings.catch_warnings():
            logging.captureWarnings(True)
            yield say
    except BaseException as error:
        with suppress(OSError):  # the disk may be full
            if isinstance(error, EXPECTED):
                log(logging.ERROR, str(error))
            elif isinstance(error, KeyboardInterrupt | SystemExit):
                log(logging.WARNING, 'stopped')
            else:
                log(logging.ERROR, 'a bug:', sys.exc_info())
        raise
    finally:
        logging.captureWarnings(False)
        python.removeHandler(file)
        logger.removeHandler(file)
        for handler, level in zip(logger.handlers, before, strict=True):
            handler.setLevel(level)
        file.close()


@contextmanager
def stoppable(command: str) -> Iterator[None]:
    """Say how to go on after Ctrl-C or SIGTERM, which end a run alike.

    Args:
        command (str): The command line to type.
    """
    ended = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal ended
        if _in_finalizer(frame):  # Python would drop what is raised there
            again = Timer(0.1, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        ended = SystemExit(128 + number)
        raise ended

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException as error:
        # Workers that the signal ended, too, raise an error of their own.
        if ended is None and not isinstance(error, KeyboardInterrupt):
            raise
        print(
            f'\nstopped. To go on from here, type: {command}',
            file=sys.stderr,
            flush=True,
        )
        raise ended or error from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _in_finalizer(frame: FrameType | None) -> bool:
    return frame is not None and (
        frame.f_code.co_name == '__del__' or _in_finalizer(frame.f_back)
    )


class _FileInFolder(logging.FileHandler):
    """Writes to a file, once there is a folder for it."""

    def __init__(self, path: Path):
        super().__init__(path, encoding='utf-8', delay=True)
        self.waiting: list[logging.LogRecord] = []
        self.setLevel(logging.INFO)
        self.setFormatter(
            logging.Formatter('%(asctime)s %(levelname)s %(message)s')
        )

    def emit(self, record: logging.LogRecord) -> None:
        self.waiting.append(record)
        if Path(self.baseFilename).parent.is_dir():
            waiting, self.waiting = self.waiting, []
            for one in waiting:
                super().emit(one)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            error.filename = error.filename or self.baseFilename
        raise  # as of a full disk, instead of a traceback per line
