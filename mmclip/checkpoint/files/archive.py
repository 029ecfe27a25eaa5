"""Zip archives of torch, looked at before anything in them is read.

Python's module and torch's reader find a directory, names and contents in
different ways. What both read differently is refused, so that what is checked
here is what anybody reads.
"""

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from functools import cached_property
from mmap import ACCESS_COPY, mmap
from pathlib import PurePosixPath
from typing import BinaryIO

import torch

from mmclip.errors import CheckpointError

# Vectors of a processor, and complex numbers of 16 bytes, must be aligned.
ALIGNMENT = 16
_CHUNK = 2**20  # bytes that are copied at once: they stay in the cache
# Sizes and signatures are those of PKWARE's APPNOTE.TXT, 4.3.
_LOCAL = struct.Struct('<4s5H3I2H')
_END = struct.Struct('<4s4H2IH')
_END_64 = struct.Struct('<4sQ2H2I4Q')
_LOCATOR_64 = struct.Struct('<4sIQI')
_HAS_DESCRIPTOR = 0x08  # the sizes come after the content


class Archive:
    """An archive as torch writes it: stored files, each in one place.

    Args:
        file (BinaryIO): The open file.

    Raises:
        CheckpointError: If it is anything else; without the file's name.
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
        """The content of a file, whose check sum is compared.

        Raises:
            CheckpointError: If there is none, or it is damaged.
        """
        name, *_ = self._find(name)
        return b''.join(self._chunks(name))

    def storage(self, name: str) -> torch.UntypedStorage:
        """The content of a file, in memory; else as :meth:`read`."""
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
        _, size = self._contents[name]
        try:
            with self._zip.open(name) as file:
                while chunk := file.read(_CHUNK):
                    size -= len(chunk)
                    yield chunk
        except zipfile.BadZipFile as error:
            raise CheckpointError(
                f'its {name} has another check sum than when it was written: '
                'the file is damaged.'
            ) from error
        if size:
            raise CheckpointError(f'its {name} is cut short.')

    def mapped(self, name: str) -> torch.UntypedStorage:
        """The content of a file, left on disk until it is used.

        Its check sum is not compared. What is not aligned is copied.

        Raises:
            CheckpointError: If there is none.
        """
        _, start, size = self._find(name)
        if not size:
            return torch.UntypedStorage(0)
        values = self._whole[start : start + size]
        return values if start % ALIGNMENT == 0 else values.clone()

    @cached_property
    def _whole(self) -> torch.UntypedStorage:
        # What is written into it is not written into the file.
        whole = mmap(self._file.fileno(), 0, access=ACCESS_COPY)
        return torch.frombuffer(whole, dtype=torch.uint8).untyped_storage()

    def check_sums(self) -> None:
        """Read everything once, and compare check sums.

        Raises:
            CheckpointError: If one is another.
        """
        if not self._is_checked:
            for name in self._contents:
                for _ in self._chunks(name):
                    pass
        self._is_checked = True

    def _find(self, name: str) -> tuple[str, int, int]:
        name = f'{self._folder}/{name}'
        if name not in self._contents:
            raise CheckpointError(f'it has no {name}.')
        return name, *self._contents[name]


def _contents(
    archive: zipfile.ZipFile,
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name, first byte and size of each file in an archive, in its order."""
    directory = _directory(archive)
    _refuse_tricks(archive)
    stop = 0
    infos = archive.infolist()
    for info in sorted(infos, key=lambda info: info.header_offset):
        start = _start(archive, info)
        if info.header_offset < stop or (stop == 0 and info.header_offset):
            raise CheckpointError(
                f'its {info.filename!r} lies in another file, or behind '
                'something else.'
            )
        stop = start + info.compress_size
        if not info.CRC:  # after set_crc32_options(False) of torch
            del info.CRC  # zipfile compares none then
        if not _is_compressed(info):
            yield info.filename, (start, info.file_size)
    if stop > directory:
        raise CheckpointError('its last file lies in its directory.')


def _directory(archive: zipfile.ZipFile) -> int:
    """Where the directory begins; it must be the one that all readers find."""
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
            'its directory is not where its end says; it may have two.'
        )
    return offset


def _start(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Where a file's content begins; its own header must agree."""
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
            f'its {info.filename!r} is something else in its own header than '
            'in the directory.'
        )
    return info.header_offset + _LOCAL.size + sum(lengths)


def _refuse_tricks(archive: zipfile.ZipFile) -> None:
    """Refuse archives that torch does not write.

    Their names must be plain: none twice (readers differ in which they take,
    and torch's ignores case), none that leads elsewhere, no links. What is
    compressed could grow a thousandfold.
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
