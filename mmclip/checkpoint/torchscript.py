"""The tensors of TorchScript archives, without running their program.

OpenAI published CLIP as such archives. ``torch.jit.load`` compiles and may
run the code in them; here only the pickle with the attributes is read, by an
unpickler that knows tensors and lists, and gives an inert object for every
module of the program.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmclip.checkpoint.archive import (
    is_archive,
    refuse_compression,
    refuse_tricks,
)
from mmclip.checkpoint.errors import CheckpointError

_STORAGES = {
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ShortStorage': torch.int16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
}
# What TorchScript writes around typed lists and dicts: their contents come
# first, a description of the type after.
_TYPED = {
    'restore_type_tag',
    'build_intlist',
    'build_tensorlist',
    'build_doublelist',
    'build_boollist',
}
# Of all modules together, and of a dotted name; CLIP's largest towers have
# about ten thousand attributes, and names of less than a hundred characters.
_MAX_ATTRIBUTES = 10**6
_MAX_NAME = 500


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with code in it."""
    if not is_archive(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition('/')[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # whoever reads it next says what is wrong
    has_code = any(name.startswith('code/') for name in names)
    return has_code and 'constants.pkl' in names


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Read the parameters and buffers of a TorchScript archive, on the CPU.

    Args:
        path (Path): The archive.

    Returns:
        dict[str, Tensor]: By their dotted names.

    Raises:
        CheckpointError: If it is damaged, or holds anything else than modules,
            tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_tricks(archive)
            data = next(
                name
                for name in archive.namelist()
                if name.partition('/')[2] == 'data.pkl'
            )
            refuse_compression(archive.getinfo(data))
            with archive.open(data) as file:
                root = _Unpickler(file, archive).load()
        tensors = _collect(root)
    except CheckpointError as error:
        raise CheckpointError(f'{path} is refused: {error}') from None
    except Exception as error:  # a damaged pickle raises almost anything
        raise CheckpointError(
            f'{path} is a damaged TorchScript archive '
            f'({type(error).__name__}: {error}).'
        ) from error
    if not tensors:
        raise CheckpointError(f'{path} is a TorchScript archive of no tensor.')
    return tensors


class _Module:
    """What is left of a module of the program: its attributes."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Sealed:
    """What a pickle can make but not alter.

    The opcode BUILD sets attributes of whatever has no ``__setstate__``, even
    of classes and functions, and calls that of tensors, which resizes them.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise CheckpointError('it alters something else than a module.')


class _Storage(_Sealed):
    __slots__ = ('values',)

    def __init__(self, values: Tensor):
        self.values = values


class _View(_Sealed):
    """A tensor, with the arguments of ``_rebuild_tensor_v2``."""

    __slots__ = ('tensor',)

    def __init__(
        self, storage: _Storage, offset: int, size: Any, stride: Any, *_: Any
    ):
        if not isinstance(storage, _Storage):
            raise CheckpointError('it holds a tensor without a storage.')
        self.tensor = _as_strided(storage.values, offset, size, stride)


class _Typed(_Sealed):
    """A typed list or dict: its contents alone."""

    __slots__ = ()

    def __new__(cls, content: Any, *_: Any) -> Any:
        return content


# The one in C reserves memory for the highest number that a pickle gives to an
# object: five bytes ask for up to 64 GiB.
class _Unpickler(pickle._Unpickler):
    """Finds no class and no function but the few named here."""

    # Its handler reserves as much memory as the pickle claims to need.
    dispatch: ClassVar = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]
    }

    def __init__(self, file: Any, archive: zipfile.ZipFile):
        super().__init__(file)
        self._archive = archive
        self._folder = file.name.partition('/')[0]
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == '__torch__' or module.startswith('__torch__.'):
            return _Module
        if module == 'torch.jit._pickle' and name in _TYPED:
            return _Typed
        if module == 'torch' and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            return _View
        if (module, name) == ('collections', 'OrderedDict'):
            return dict
        raise CheckpointError(
            f'besides tensors it holds {module}.{name}, and loading that '
            'could execute code.'
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, numel = pid
        if kind != 'storage' or not isinstance(dtype, torch.dtype):
            raise CheckpointError(f'it holds an unknown reference {kind!r}.')
        if key not in self._storages:
            self._storages[key] = self._read(str(key), dtype)
        storage = self._storages[key]
        if storage.dtype != dtype or len(storage) != numel:
            raise CheckpointError(
                f'storage {key} has {len(storage)} values of {storage.dtype}, '
                f'not {numel} of {dtype}.'
            )
        return _Storage(storage)

    def _read(self, key: str, dtype: torch.dtype) -> Tensor:
        info = self._archive.getinfo(f'{self._folder}/data/{key}')
        refuse_compression(info)
        content = bytearray(self._archive.read(info))
        if not content:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(content, dtype=dtype)


def _as_strided(
    storage: Tensor, offset: int, size: Any, stride: Any
) -> Tensor:
    size, stride = tuple(size), tuple(stride)
    if min((offset, *size, *stride)) < 0 or len(size) != len(stride):
        raise CheckpointError('it holds a tensor of an impossible shape.')
    if 0 not in size:
        steps = zip(size, stride, strict=True)
        if offset + sum((n - 1) * s for n, s in steps) >= len(storage):
            raise CheckpointError('it holds a tensor larger than its storage.')
    return storage.as_strided(size, stride, offset)


def _collect(root: Any) -> dict[str, Tensor]:
    """The tensors below a module, in a flat dict."""
    tensors: dict[str, Tensor] = {}
    pending, attributes = [('', root)], 0
    while pending:
        name, value = pending.pop()
        if isinstance(value, _View):
            tensors[name] = value.tensor
        elif isinstance(value, _Module):
            children = getattr(value, 'attributes', {})
            attributes += len(children)
            # A module may be in many places, and then in 2 ** depth.
            if attributes > _MAX_ATTRIBUTES or len(name) > _MAX_NAME:
                raise CheckpointError('its modules are nested without end.')
            pending += [
                (f'{name}.{key}' if name else str(key), child)
                for key, child in reversed(children.items())
            ]
    return tensors
