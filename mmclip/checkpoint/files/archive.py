"""Torch's zip archives, checked before anything in them is read.

Python's module and torch's reader find the directory, names and contents in
different ways. Archives that they would read differently are refused, so that
what is checked here is what others read.
"""

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import PurePosixPath
from typing import BinaryIO

import torch

from mmclip.errors import CheckpointError

# For vector instructions, and complex numbers of 16 bytes.
ALIGNMENT = 16
_CHUNK = 2**20  # bytes copied at a time, few enough for the cache
# Sizes and signatures from PKWARE's APPNOTE.TXT, 4.3.
_LOCAL = struct.Struct('<4s5H3I2H')
_END = struct.Struct('<4s4H2IH')
_END_64 = struct.Struct('<4sQ2H2I4Q')
_LOCATOR_64 = struct.Struct('<4sIQI')
_HAS_DESCRIPTOR = 0x08  # sizes follow the content


class Archive:
    """An archive as torch writes it, with uncompressed, separate files.

    Args:
        file (BinaryIO): The open file.

    Raises:
        CheckpointError: If it is anything else; does not name the file.
        zipfile.BadZipFile: If it is damaged.
    """

    def __init__(self, file: BinaryIO):
        self._file, self._zip = file, zipfile.ZipFile(file)
        self._contents = dict(_contents(self._zip))
        self._is_checked = False
        first = next(iter(self._contents), '')
        self._folder = first.partition('/')[0]

    def __contains__(self, name: str) -> bool:
        return f'{self._folder}/{name}' in self._contents

    def read(self, name: str) -> bytes:
        """Return the content of a file after comparing its checksum.

        Raises:
            CheckpointError: If it does not exist or is damaged.
        """
        name, *_ = self._find(name)
        return b''.join(self._chunks(name))

    def storage(self, name: str) -> torch.UntypedStorage:
        """Return the content of a file as :meth:`read`, as a storage."""
        if self._is_checked:
            return self.mapped(name).clone()
        name, _, size = self._find(name)
        values, start = torch.empty(size, dtype=torch.uint8), 0
        view = values.numpy().data
        for chunk in self._chunks(name):
            view[start : start + len(chunk)] = chunk
            start += len(chunk)
        return values.untyped_storage()

    def _chunks(self, name: str) -> Iterator[bytes]:
        start, size = self._contents[name]
        if self._is_checked:  # and closed
            values = torch.empty(0, dtype=torch.uint8).set_(
                self._whole[start : start + size]
            )
            yield values.numpy().tobytes()
            return
        try:
            with self._zip.open(name) as file:
                while chunk := file.read(_CHUNK):
                    size -= len(chunk)
                    yield chunk
        except zipfile.BadZipFile as error:
            raise CheckpointError(
                f'its {name} has the wrong checksum: the file is damaged.'
            ) from error
        if size:
            raise CheckpointError(f'its {name} is cut short.')

    def mapped(self, name: str) -> torch.UntypedStorage:
        """Return the content of a file, left on disk until it is used.

        Its checksum is not compared. Unaligned content is copied.

        Raises:
            CheckpointError: If it does not exist.
        """
        _, start, size = self._find(name)
        if not size:
            return torch.UntypedStorage(0)
        values = self._whole[start : start + size]
        return values if start % ALIGNMENT == 0 else values.clone()

    @cached_property
    def _whole(self) -> torch.UntypedStorage:
        # Holds no descriptor; writes to it do not change the file.
        size = os.fstat(self._file.fileno()).st_size
        path = same_file(self._file)
        return torch.UntypedStorage.from_file(path, False, size)  # type: ignore[return-value]

    def check_sums(self) -> None:
        """Read everything once, compare checksums, and close the file.

        What is mapped stays readable.

        Raises:
            CheckpointError: If one differs.
        """
        if self._is_checked:
            return
        for name in self._contents:
            for _ in self._chunks(name):
                pass
        _ = self._whole
        self._is_checked = True
        self._file.close()

    def _find(self, name: str) -> tuple[str, int, int]:
        name = f'{self._folder}/{name}'
        if name not in self._contents:
            raise CheckpointError(f'it lacks {name}.')
        return name, *self._contents[name]


def same_file(file: BinaryIO) -> str:
    """Return a path of an open file, for libraries that open it again.

    Another file that has taken its name meanwhile is not opened, except on
    Windows, which has no such paths.
    """
    path = f'/dev/fd/{file.fileno()}'
    return path if os.path.exists(path) else file.name


def _contents(
    archive: zipfile.ZipFile,
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield name, first byte and size of each file, in the archive's order."""
    directory = _directory(archive)
    _refuse_tricks(archive)
    stop = 0
    infos = archive.infolist()
    for info in sorted(infos, key=lambda info: info.header_offset):
        start = _start(archive, info)
        if info.header_offset < stop or (stop == 0 and info.header_offset):
            raise CheckpointError(
                f'its {info.filename!r} overlaps another file, or does not '
                'start where it must.'
            )
        stop = start + info.compress_size
        if not info.CRC:  # written after torch's set_crc32_options(False)
            del info.CRC  # makes zipfile skip the comparison
        if not _is_compressed(info):
            yield info.filename, (start, info.file_size)
    if stop > directory:
        raise CheckpointError('its last file overlaps its directory.')


def _directory(archive: zipfile.ZipFile) -> int:
    """Return the directory's start; it must be the one all readers find."""
    file = archive.fp
    assert file is not None  # it is open
    stop = file.seek(0, os.SEEK_END) - _END.size
    file.seek(max(0, stop - _LOCATOR_64.size - _END_64.size))
    tail = file.read()
    signature, *disks, here, number, size, offset, comment = _END.unpack(
        tail[-_END.size :]
    )
    wide, locator = tail[: _END_64.size], tail[_END_64.size : -_END.size]
    found, plain = (disks, here, comment), ([0, 0], number, 0)
    is_plain = signature == b'PK\x05\x06' and found == plain
    if locator.startswith(b'PK\x06\x07'):
        stop -= _LOCATOR_64.size + _END_64.size
        narrow = number, size, offset
        signature, _, _, _, *disks, here, number, size, offset = (
            _END_64.unpack(wide)
        )
        is_plain = (
            is_plain
            and _LOCATOR_64.unpack(locator)[1:] == (0, stop, 1)
            and (signature, disks, here) == (b'PK\x06\x06', [0, 0], number)
            and narrow[0] in (number, 0xFFFF)
            and narrow[1] in (size, 0xFFFFFFFF)
            and narrow[2] in (offset, 0xFFFFFFFF)
        )
    if (
        not is_plain
        or offset + size != stop
        or offset != archive.start_dir
        or number != len(archive.infolist())
    ):
        raise CheckpointError(
            'its directory is not where its end record says; it may have two.'
        )
    return offset


def _start(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Return where a file's content starts; its own header must agree."""
    file = archive.fp
    assert file is not None  # it is open
    file.seek(info.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size:
        raise zipfile.BadZipFile(f'{info.filename} is missing')
    signature, _, flags, method, _, _, crc, packed, size, *lengths = (
        _LOCAL.unpack(header)
    )
    name = file.read(lengths[0])
    raw = info.orig_filename.encode('utf-8' if flags & 0x800 else 'cp437')
    wanted = {(info.CRC, info.file_size)}
    if flags & _HAS_DESCRIPTOR:
        wanted.add((0, 0))
    elif size == packed == 0xFFFFFFFF:  # the sizes are in the extra field
        wanted.add((info.CRC, size))
    if (
        signature != b'PK\x03\x04'
        or name != raw
        or method != info.compress_type
        or packed != size
        or (crc, size) not in wanted
    ):
        raise CheckpointError(
            f'its {info.filename!r} has a header that differs from the '
            'directory.'
        )
    return info.header_offset + _LOCAL.size + sum(lengths)


def _refuse_tricks(archive: zipfile.ZipFile) -> None:
    """Refuse archives that torch does not write.

    Names must be unique (readers differ in which duplicate they take, and
    torch's ignores case) and stay within the archive. Links are refused, and
    so is compressed content, which could grow a thousandfold.
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
        # TorchScript compresses its program, which nobody reads here.
        if _is_compressed(info) and path.parts[1:2] != ('code',):
            raise CheckpointError(f'its {name} is compressed.')


def _is_compressed(info: zipfile.ZipInfo) -> bool:
    sizes = info.compress_size, info.file_size
    return info.compress_type != zipfile.ZIP_STORED or sizes[0] != sizes[1]
