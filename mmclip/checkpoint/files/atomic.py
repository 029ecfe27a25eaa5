"""Atomic writing: files appear whole or not at all."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The prefix of files that a killed process may leave behind.
TEMPORARY = '.mmclip-tmp-'


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to ``path`` at the end.

    The contents are flushed to disk first. Whatever happens, ``path`` has the
    old contents or the new: a reader never finds a half-written file. As with
    :func:`open`, links are followed, an existing file keeps its mode, and the
    mode of a new one obeys the umask.

    Args:
        path (str | Path): The file to write; its folders are created.

    Raises:
        OSError: If it cannot be written; an existing file stays as it was.
    """
    name, path = path, Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, f'{name} is not a regular file')
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that shares nothing with that of path.
    temporary = path.parent / f'{TEMPORARY}{secrets.token_hex(8)}'
    try:
        temporary.touch(exist_ok=False)
        # The mode that open() would give; some libraries use another.
        mode = _mode(path if path.exists() else temporary)
        yield temporary
        if _mode(temporary) != mode:
            temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f'{name} could not be written ({error.strerror or error}); an '
            'existing file is unchanged',
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)  # so that the renaming survives a power cut


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    try:
        _flush(folder)
    except OSError as error:
        # Some network file systems can flush files but not folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
