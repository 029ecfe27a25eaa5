"""A short screen and a full log."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import MMLogger


@contextmanager
def log_to(path: Path, *, verbose: bool = False) -> Iterator[None]:
    """Write what is logged to a file, and only warnings to the screen.

    Python's own warnings go to the file alone.

    Args:
        path (Path): The file, to which lines are added.
        verbose (bool): Whether the screen shows everything. Defaults to
            False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = MMLogger.get_instance(
        f'mmclip {time.time()}', logger_name='mmclip', log_level='INFO'
    )
    file = logging.FileHandler(path, encoding='utf-8')
    file.setLevel(logging.INFO)
    file.setFormatter(
        logging.Formatter('%(asctime)s %(levelname)s %(message)s')
    )
    before = [handler.level for handler in logger.handlers]
    if not verbose:
        for handler in logger.handlers:
            handler.setLevel(logging.WARNING)
    logger.addHandler(file)
    python = logging.getLogger('py.warnings')
    python.addHandler(file)
    python.propagate = verbose
    try:
        with warnings.catch_warnings():
            logging.captureWarnings(True)
            yield
    finally:
        logging.captureWarnings(False)
        python.removeHandler(file)
        logger.removeHandler(file)
        for handler, level in zip(logger.handlers, before, strict=True):
            handler.setLevel(level)
        file.close()
