"""Zip archives of torch, looked at before torch reads them."""

import mmap
import stat
import zipfile
from pathlib import Path, PurePosixPath

from mmclip.checkpoint.errors import CheckpointError


def is_archive(path: Path) -> bool:
    """Whether a file is a zip, damaged perhaps."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return True


def refuse_tricks(archive: zipfile.ZipFile) -> None:
    """Refuse archives that torch does not write.

    Their directory must be plain: no name twice (readers differ in which they
    take, and torch's ignores case), none that leads elsewhere, no links. What
    is compressed could grow a thousandfold.

    Raises:
        CheckpointError: Without the archive's name.
    """
    seen = set()
    for info in archive.infolist():
        name = info.filename
        path = PurePosixPath(name.replace('\\', '/'))
        if path.is_absolute() or '..' in path.parts:
            raise CheckpointError(f'its {name!r} leads out of the archive.')
        if stat.S_ISLNK(info.external_attr >> 16):
            raise CheckpointError(f'its {name!r} is a link.')
        if name.lower() in seen:
            raise CheckpointError(f'it holds {name!r} twice.')
        seen.add(name.lower())


def refuse_compression(info: zipfile.ZipInfo) -> None:
    """Refuse a compressed file in an archive."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(f'its {info.filename} is compressed.')


# What torch's safe unpickler calls with whatever a file says, and nothing in
# a checkpoint needs: bytearray(2 ** 40) takes a terabyte.
GREEDY = b'\nbytearray\n'


def refuse_greedy_pickles(path: Path) -> None:
    """Refuse a torch file whose pickle can take memory that it does not hold.

    Raises:
        CheckpointError: Without the file's name.
    """
    if is_archive(path):
        with zipfile.ZipFile(path) as archive:
            pickles = [
                archive.read(info)
                for info in archive.infolist()
                if info.filename.lower().endswith('.pkl')
            ]
        is_greedy = any(GREEDY in content for content in pickles)
    else:
        with (
            open(path, 'rb') as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            is_greedy = content.find(GREEDY) >= 0
    if is_greedy:
        raise CheckpointError('its pickle makes a bytearray of any size.')
