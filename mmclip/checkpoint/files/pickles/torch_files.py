"""Files of ``torch.save`` and ``torch.jit``, read without torch's own loader.

``torch.load(weights_only=True)`` executes nothing either, but a number in a
file can make it allocate tensors of any size, and a kilobyte of nested
containers can take it a minute. It also accepts names that other libraries
allow. ``torch.jit.load`` compiles, and may run, the program in archives such
as OpenAI's CLIP; here only the pickle with the attributes is read, which
gives an inert object for every module of the program.
"""

import io
import struct
import sys
import zipfile
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.serialization import default_restore_location

from mmclip.checkpoint.files.archive import Archive
from mmclip.checkpoint.files.pickles.allow_list import (
    MODULE,
    NAMES,
    NAMES_OF_TORCHSCRIPT,
)
from mmclip.checkpoint.files.pickles.unpickler import Module, Unpickler, shown
from mmclip.errors import CheckpointError

Place = Callable[[torch.UntypedStorage, str], torch.UntypedStorage]
# The first values in files from before torch 1.6.
_BEGINNING = (0x1950A86A20F9469CFC6C, 1001)
# Characters of a dotted name; CLIP's towers need fewer than a hundred.
_MAX_NAME = 500


def is_zipped(start: bytes, file: BinaryIO) -> bool:
    """Return whether a file is a zip file, even a damaged one.

    Args:
        start (bytes): Its first bytes.
        file (BinaryIO): The open file.
    """
    try:
        is_zip = zipfile.is_zipfile(file)
    except zipfile.BadZipFile:
        return True
    return is_zip or start.startswith(b'PK\x03\x04')


class ZippedFile(Archive):
    """A zip archive from ``torch.save`` or TorchScript."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        names = {name.partition('/')[2] for name in self._zip.namelist()}
        has_code = any(name.startswith('code/') for name in names)
        self._is_script = has_code and 'constants.pkl' in names
        self.kind = 'TorchScript' if self._is_script else 'torch'

    def load(self, map_location: Any, *, mapped: bool) -> Any:
        """Return what was saved, or a program's parameters and buffers.

        Args:
            map_location (Any): As in :func:`torch.load`.
            mapped (bool): Leave tensors on disk until they are used, and do
                not compare their checksums.

        Raises:
            CheckpointError: If it contains anything that is not allowed, or
                claims more than it has; does not name the file.
        """
        if map_location is None and self._is_script:
            map_location = 'cpu'
        read = self.mapped if mapped else self.storage
        place, order = _place(map_location), b'little'
        if 'byteorder' in self:
            order = self.read('byteorder')
        is_foreign = order.decode() != sys.byteorder
        storages: dict[str, torch.UntypedStorage] = {}

        def storage_of(
            key: str, nbytes: int, dtype: torch.dtype | None, location: str
        ) -> torch.UntypedStorage:
            if key not in storages:
                values = read(f'data/{key}')
                if is_foreign and dtype is not None:
                    values = values.clone()  # others may have mapped it too
                    values.byteswap(dtype)
                storages[key] = place(values, location)
            return _of_size(storages[key], nbytes, key)

        content = self.read('data.pkl')
        file, size = io.BytesIO(content), len(content)
        if not self._is_script:
            return Unpickler(file, size, NAMES, storage_of).load()
        program = _ProgramUnpickler(
            file, size, NAMES_OF_TORCHSCRIPT, storage_of
        )
        return _tensors_of(program.load())


class LegacyFile:
    """A file from ``torch.save`` before torch 1.6, which has no checksums.

    Args:
        file (BinaryIO): The open file.
        size (int): Its size in bytes.
    """

    kind = 'torch before 1.6'

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._size = file, size

    def load(self, map_location: Any, *, mapped: bool) -> Any:
        """Return what was saved, always in memory.

        Otherwise like :class:`ZippedFile`. The values of storages follow the
        pickle: storages are allocated if the file is large enough for them,
        and filled afterwards.
        """
        file, size, place = self._file, self._size, _place(map_location)
        storages: dict[Any, tuple[torch.UntypedStorage, int]] = {}
        left = size

        def storage_of(
            key: str, nbytes: int, dtype: torch.dtype | None, location: str
        ) -> torch.UntypedStorage:
            nonlocal left
            if key not in storages:
                left -= nbytes
                if left < 0:
                    raise CheckpointError(
                        f'its storage {key} claims {nbytes:,} bytes, more '
                        'than are left in the file.'
                    )
                empty = torch.UntypedStorage(nbytes)
                itemsize = 1 if dtype is None else dtype.itemsize
                storages[key] = place(empty, location), itemsize
            return _of_size(storages[key][0], nbytes, key)

        file.seek(0)
        if tuple(Unpickler(file, size, {}).load() for _ in '12') != _BEGINNING:
            raise UnpicklingError('it does not start like a torch file')
        Unpickler(file, size, {}).load()  # about the machine that wrote it
        content = Unpickler(file, size, NAMES, storage_of).load()
        for key in Unpickler(file, size, {}).load():
            if not isinstance(key, str | int) or key not in storages:
                raise CheckpointError(
                    f'nothing uses its storage {shown(key)}.'
                )
            storage, itemsize = storages.pop(key)
            (number,) = struct.unpack('<q', file.read(8))
            values = torch.empty(storage.nbytes(), dtype=torch.uint8)
            count = file.readinto(values.numpy())  # type: ignore[attr-defined]
            if number * itemsize != len(values) or count != len(values):
                raise CheckpointError(
                    f'its storage {key} claims {len(values):,} bytes, but '
                    f'has {number * itemsize:,}.'
                )
            storage.copy_(values.untyped_storage())
        if storages:
            raise CheckpointError(f'it has no storage {next(iter(storages))}.')
        return content


class _ProgramUnpickler(Unpickler):
    """An unpickler that accepts modules of a program by any name."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for."""
        if module == '__torch__' or module.startswith('__torch__.'):
            return MODULE
        return super().find_class(module, name)


def _tensors_of(root: Any) -> dict[str, Tensor]:
    """Return the tensors below a program's module, by dotted names."""
    tensors: dict[str, Tensor] = {}
    pending = [('', root)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, Tensor):
            tensors[name] = value.detach()
        elif isinstance(value, Module):
            if len(name) > _MAX_NAME:
                raise CheckpointError('the names of its modules are too long.')
            pending += [
                (f'{name}.{key}' if name else str(key), child)
                for key, child in reversed(value.attributes.items())
            ]
    if not tensors:
        raise CheckpointError('it is a TorchScript archive without tensors.')
    return tensors


def _of_size(
    storage: torch.UntypedStorage, nbytes: int, key: str
) -> torch.UntypedStorage:
    if storage.nbytes() != nbytes:
        raise CheckpointError(
            f'its storage {key} has {storage.nbytes():,} bytes but claims '
            f'{nbytes:,}.'
        )
    return storage


def _place(map_location: Any) -> Place:
    """Return a function that moves storages as :func:`torch.load` does."""

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
