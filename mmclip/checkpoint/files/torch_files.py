"""Files of ``torch.save``, read without torch's own loader.

``torch.load(weights_only=True)`` executes nothing either, but makes tensors
of any size out of a number, and takes a minute for a kilobyte of containers
that hold one another. It also accepts names that other libraries admit.
"""

import io
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from torch.serialization import default_restore_location

from mmclip.checkpoint.files.archive import Archive
from mmclip.checkpoint.files.names import NAMES
from mmclip.checkpoint.files.unpickler import Unpickler, shown
from mmclip.errors import CheckpointError

Place = Callable[[torch.UntypedStorage, str], torch.UntypedStorage]
# What files before torch 1.6 begin with, before their contents.
_BEGINNING = (0x1950A86A20F9469CFC6C, 1001)


def read_archive(
    archive: Archive,
    map_location: Any = 'cpu',
    *,
    mmap: bool = False,
    kind: type[Unpickler] = Unpickler,
    names: Mapping[str, Any] = NAMES,
) -> Any:
    """What :func:`torch.save` was given.

    Args:
        archive (Archive): The file.
        map_location (Any): As in :func:`torch.load`.
        mmap (bool): Leave tensors on disk until they are used, and do not
            compare their check sums. Defaults to False.
        kind (type): Reads the pickle.
        names (Mapping): What the pickle may name.

    Raises:
        CheckpointError: If it holds anything else than it may, or claims more
            than it has; without the file's name.
    """
    place = _place(map_location)
    storages: dict[str, torch.UntypedStorage] = {}
    order = archive.read('byteorder') if 'byteorder' in archive else b'little'

    def storage_of(
        key: str, nbytes: int, dtype: torch.dtype | None, location: str
    ) -> torch.UntypedStorage:
        if key not in storages:
            read = archive.mapped if mmap else archive.storage
            values = read(f'data/{key}')
            if order.decode() != sys.byteorder and dtype is not None:
                values.byteswap(dtype)
            storages[key] = place(values, location)
        return _of_size(storages[key], nbytes, key)

    content = archive.read('data.pkl')
    file = io.BytesIO(content)
    return kind(file, len(content), names, storage_of).load()


def read_legacy(path: Path, map_location: Any) -> Any:
    """What :func:`torch.save` was given before torch 1.6.

    Its storages come after the pickle, which is read twice: first to learn
    what it claims, and then with the values that are there.

    Args:
        path (Path): The file.
        map_location (Any): As in :func:`torch.load`.

    Raises:
        CheckpointError: As :func:`read_archive`.
    """
    size, place = path.stat().st_size, _place(map_location)
    claims: dict[str | int, int] = {}  # bytes of a value
    found: dict[str | int, tuple[int, int]] = {}  # where, and how many bytes
    storages: dict[str, torch.UntypedStorage] = {}

    def claim(
        key: str, nbytes: int, dtype: torch.dtype | None, location: str
    ) -> torch.UntypedStorage:
        claims[key] = 1 if dtype is None else dtype.itemsize
        return torch.UntypedStorage(nbytes, device='meta')

    def storage_of(
        key: str, nbytes: int, dtype: torch.dtype | None, location: str
    ) -> torch.UntypedStorage:
        if key not in found:
            raise CheckpointError(f'it has no storage {key}.')
        if key not in storages:
            storages[key] = place(_read_storage(file, *found[key]), location)
        return _of_size(storages[key], nbytes, key)

    with open(path, 'rb') as file:
        if tuple(Unpickler(file, size, {}).load() for _ in '12') != _BEGINNING:
            raise UnpicklingError('it does not begin as files of torch do')
        Unpickler(file, size, {}).load()  # the machine that wrote it
        start = file.tell()
        Unpickler(file, size, NAMES, claim).load()
        for key in Unpickler(file, size, {}).load():
            if not isinstance(key, str | int):
                raise CheckpointError(f'it calls a storage {shown(key)}.')
            (number,) = struct.unpack('<q', file.read(8))
            nbytes = number * claims.get(key, 1)
            found[key] = file.tell(), nbytes
            if not 0 <= nbytes <= size - file.tell():
                raise CheckpointError(
                    f'its storage {key} claims {nbytes:,} bytes, more than '
                    'the file has.'
                )
            file.seek(nbytes, io.SEEK_CUR)
        file.seek(start)
        return Unpickler(file, size, NAMES, storage_of).load()


def _read_storage(
    file: BinaryIO, start: int, nbytes: int
) -> torch.UntypedStorage:
    values, back = torch.empty(nbytes, dtype=torch.uint8), file.tell()
    file.seek(start)
    file.readinto(values.numpy())  # type: ignore[attr-defined]
    file.seek(back)
    return values.untyped_storage()


def _of_size(
    storage: torch.UntypedStorage, nbytes: int, key: str
) -> torch.UntypedStorage:
    if storage.nbytes() != nbytes:
        raise CheckpointError(
            f'its storage {key} has {storage.nbytes():,} bytes and claims '
            f'{nbytes:,}.'
        )
    return storage


def _place(map_location: Any) -> Place:
    """Puts a storage where it shall be, as :func:`torch.load` does."""

    def place(
        storage: torch.UntypedStorage, location: str
    ) -> torch.UntypedStorage:
        if callable(map_location):
            placed = map_location(storage, location)
            if placed is not None:
                return placed
        elif isinstance(map_location, dict):
            location = map_location.get(location, location)
        elif map_location is not None:
            location = str(map_location)
        return default_restore_location(storage, location)

    return place
