"""Files that are whole or not there."""

import errno
import os
import secrets
import shutil
import stat
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
    half-written file. As with :func:`open`, a link is followed, the mode of
    an old file stays, and that of a new one obeys the umask.

    Args:
        path (str | Path): The file to write; folders are made.

    Raises:
        OSError: If it cannot be written; an old file stays as it was.
    """
    name, path = path, Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, f'{name} is not a regular file')
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not under path's own name, not even in part.
    temporary = path.parent / f'{TEMPORARY}{secrets.token_hex(8)}'
    try:
        temporary.touch(exist_ok=False)
        # As open() would give it; some libraries write files of another.
        mode = _mode(path if path.exists() else temporary)
        yield temporary
        if _mode(temporary) != mode:
            temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f'{name} could not be written ({error.strerror or error}); what '
            'was there before is intact',
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)  # so that the renaming survives a power cut


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder with the mode that :func:`os.mkdir` gives, removed at the end.

    It may be renamed before.

    Args:
        parent (Path): The folder to make it in.
    """
    folder = parent / f'{TEMPORARY}{secrets.token_hex(8)}'
    folder.mkdir()
    try:
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder)


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
        # Some network file systems flush files, and have no such thing for
        # folders: then there is nothing to be done.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
