"""Files that are whole or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a killed process leaves behind begins so.
TEMPORARY = '.mmclip-tmp-'


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give another name to write to, which becomes ``path`` at the end.

    The contents are flushed to the disk before. Whatever happens, ``path``
    stands for the old contents or for the new: a reader never finds a
    half-written file.

    Args:
        path (str | Path): The file to write; folders are made.

    Raises:
        OSError: If it cannot be written; an old file stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not under path's own name, not even in part.
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f'{path} could not be written ({error.strerror or error}); what '
            'was there before is intact',
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)  # so that the renaming survives a loss of power


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
