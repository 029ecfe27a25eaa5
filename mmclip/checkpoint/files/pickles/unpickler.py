"""A pickle reader whose time and memory are bounded by the pickle's length.

pickle's own machine runs here, with only the few instructions that torch
writes. Every name in a pickle stands for a function of ours, listed in a
table: classes and functions of libraries accept too much. Even harmless parts
of a kilobyte can cause much work: nested containers, keys that are slow to
compare, a text that is copied a million times. So copies, comparisons and
nesting are counted.
"""

import _compat_pickle
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from mmclip.errors import CheckpointError

# How often a file's bytes may be copied and its values used again, and an
# allowance for small files.
MOST_COPIES = 16
SMALL = 2**16
MOST_DEPTH = 100
# Python salts the hashes of texts, but anyone can find numbers and tuples that
# all collide in a dict, where each is compared with all others. These are the
# most keys of a dict or set that has such keys.
MOST_NUMBERS_AS_KEYS = 10**5
MOST_TUPLES_AS_KEYS = 10**3
MOST_PARTS_OF_A_KEY = 16
MOST_DIGITS_OF_A_STORAGE = 50
_SIZE_OF_A_VALUE = 64  # least bytes of a value that a function makes
_SIZE_OF_A_PART = 16  # least bytes of an item in a container
_PLAIN_KEYS = (str, bytes, bool, type(None), torch.dtype, torch.device)

_OPCODES = (
    *(pickle.PROTO, pickle.STOP, pickle.GLOBAL, pickle.BINPERSID),
    *(pickle.REDUCE, pickle.NEWOBJ, pickle.BUILD, pickle.MARK),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BINFLOAT),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1),
    *(pickle.BINUNICODE, pickle.SHORT_BINSTRING),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2),
    *(pickle.TUPLE3, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS),
    *(pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT),
)


@dataclass(frozen=True)
class Named:
    """The replacement for a name in a pickle.

    Args:
        name (str): The name, with its module.
        call (Callable): Makes the value; None if it is never called.
        fill (Callable): Applies a state to the value, if it has one.
        is_hollow (bool): Whether the value is unusable without its state.
        keys (Callable): Returns those arguments that ``call`` hashes.
        dtype (torch.dtype): The dtype, if it is a class of storages.
    """

    name: str
    call: Callable[..., Any] | None = None
    fill: Callable[[Any, Any], None] | None = None
    is_hollow: bool = False
    keys: Callable[..., Iterable[Any]] | None = None
    dtype: torch.dtype | None = None


@dataclass(frozen=True, eq=False)
class Storage:
    """The bytes of tensors, with the dtype that the pickle gives them."""

    values: torch.UntypedStorage
    dtype: torch.dtype | None


class Module:
    """A module of a program, reduced to its attributes."""

    def __init__(self) -> None:
        self.attributes: dict[Any, Any] = {}


class _Dispatch(dict[int, Any]):
    """The functions for the instructions; others are refused."""

    def __missing__(self, code: int) -> Any:
        raise pickle.UnpicklingError(
            f'its pickle has the instruction {code:#x}, which torch does not '
            'write with its default pickle_protocol'
        )


# Not the one in C: it reserves memory for the highest memo number in a pickle,
# so that five bytes can ask for up to 64 GiB.
class Unpickler(pickle._Unpickler):
    """A reader of one pickle.

    Args:
        file (Any): A binary file, positioned at the pickle.
        size (int): The largest size of the pickle in bytes.
        names (Mapping): The replacement for each name: :class:`Named`, or a
            value.
        storage_of (Callable): Returns a storage for the key, number of bytes,
            dtype and device in the pickle. By default there are no storages.

    Raises:
        CheckpointError: If it is refused; does not name the file.
    """

    # Attributes of pickle's own class.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    _file_read: Callable[[int], bytes]

    def __init__(
        self,
        file: Any,
        size: int,
        names: Mapping[str, Any],
        storage_of: Callable[..., torch.UntypedStorage] | None = None,
    ):
        super().__init__(file, encoding='utf-8')
        # A file's own read() allocates as much as it is asked for.
        self._file_read = lambda count: file.read(min(count, size))
        self._names = names
        self._storage_of = storage_of
        self._most = SMALL + MOST_COPIES * size
        self._copied = 0
        self._fillers: dict[int, tuple[Any, Named]] = {}

    def load(self) -> Any:
        """Read the value."""
        value = super().load()
        if any(named.is_hollow for _, named in self._fillers.values()):
            raise CheckpointError('it makes an object and leaves it empty.')
        refuse_knots(value, self._most)
        return value

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for."""
        # Protocol 2 writes Python 2's names.
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        if (module, name) == ('builtins', 'long'):
            name = 'int'
        named = self._names.get(f'{module}.{name}')
        if named is None:
            raise CheckpointError(
                f'besides tensors it contains {module[:99]}.{name[:99]}, and '
                'loading that could execute code. Save its state dict alone.'
            )
        return named

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that a reference stands for."""
        kind, named, key, location, numel, *view = parts_of(pid)
        if kind != 'storage' or self._storage_of is None or any(view):
            raise CheckpointError(f'it has a reference to {shown(kind)}.')
        if not isinstance(key, str | int) or not isinstance(location, str):
            raise CheckpointError('it has a storage without a name.')
        if len(str(key)) > MOST_DIGITS_OF_A_STORAGE:
            raise CheckpointError(f'it has a storage named {shown(key)}.')
        if not isinstance(numel, int) or not 0 <= numel < 2**60:
            raise CheckpointError(f'its storage {key} claims {shown(numel)}.')
        if not isinstance(named, Named) or 'Storage' not in named.name:
            raise CheckpointError('it has a storage of an unknown type.')
        itemsize = 1 if named.dtype is None else named.dtype.itemsize
        values = self._storage_of(key, numel * itemsize, named.dtype, location)
        return Storage(values, named.dtype)

    def _call(self, named: Any, args: Any) -> Any:
        if type(named) is not Named or named.call is None:
            raise CheckpointError(f'it calls {shown(named)}.')
        if type(args) is not tuple:
            raise CheckpointError(f'it calls {named.name} with no arguments.')
        self._spend(args)
        for i, key in enumerate(named.keys(*args) if named.keys else ()):
            _check_key(key, i)
        value = named.call(*args)
        if named.fill is not None:
            self._fillers[id(value)] = value, named
        return value

    def _spend(self, values: Iterable[Any]) -> None:
        """Count the bytes that a function may copy."""
        self._copied += _SIZE_OF_A_VALUE + sum(map(_size, values))
        if self._copied > self._most:
            raise CheckpointError('it copies the same values too often.')

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def _new(self) -> None:
        args, named = self.stack.pop(), self.stack.pop()
        self.append(self._call(named, args))

    def _build(self) -> None:
        state, value = self.stack.pop(), self.stack[-1]
        _, named = self._fillers.pop(id(value), (None, None))
        if named is None or named.fill is None:
            raise CheckpointError('it sets the state of a stateless value.')
        is_dict = type(state) is dict
        self._spend(state.values() if is_dict else parts_of(state))
        named.fill(value, state)

    def _append(self) -> None:
        self._extend([self.stack.pop()])

    def _appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise CheckpointError('it appends, but not to a list.')
        self.stack[-1].extend(values)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _setitems(self) -> None:
        self._update(self.pop_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict):
            raise CheckpointError('it sets items, but not of a dict.')
        for key, value in zip(items[::2], items[1::2], strict=True):
            _check_key(key, len(target))
            target[key] = value

    dispatch: ClassVar[dict[int, Any]] = _Dispatch(
        {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}
        | {
            pickle.REDUCE[0]: _reduce,
            pickle.NEWOBJ[0]: _new,
            pickle.BUILD[0]: _build,
            pickle.APPEND[0]: _append,
            pickle.APPENDS[0]: _appends,
            pickle.SETITEM[0]: _setitem,
            pickle.SETITEMS[0]: _setitems,
        }
    )


def _check_key(key: Any, others: int) -> None:
    """Refuse a key that may be slow to compare with a container's others."""
    if type(key) in _PLAIN_KEYS:
        return
    most = MOST_NUMBERS_AS_KEYS
    if type(key) is tuple and len(key) <= MOST_PARTS_OF_A_KEY:
        most = MOST_TUPLES_AS_KEYS
        for part in key:
            if type(part) is tuple:
                raise CheckpointError('it has tuples of tuples as keys.')
            _check_key(part, 0)
    elif isinstance(key, int | np.integer):
        if abs(int(key)) >= 2**60:
            raise CheckpointError(f'it has {shown(key)} as a key.')
    elif not isinstance(key, float | np.str_ | np.bytes_):
        raise CheckpointError(f'it has {shown(key)} as a key.')
    if others >= most:
        raise CheckpointError(
            f'it has more than {most:,} keys such as {shown(key)} in one dict '
            'or set.'
        )


def parts_of(value: Any) -> Any:
    """Return the items of a tuple or list, and refuse other values.

    A tensor could be iterated too, over as many values as it claims to have.
    """
    if not isinstance(value, tuple | list):
        raise CheckpointError(f'it uses {shown(value)} as a tuple.')
    return value


def shown(value: Any) -> str:
    """Return a value for a message, or only the type of a container."""
    if isinstance(value, Named):
        return value.name
    if isinstance(value, str | int):
        return repr(value)[:99]
    return f'a {type(value).__name__}'


def _size(value: Any) -> int:
    """Return roughly how many bytes there are to copy."""
    if isinstance(value, np.ndarray | np.generic):
        return 1 + value.nbytes
    if isinstance(value, str | bytes):
        return 1 + len(value)
    if isinstance(value, list | tuple | dict | set | frozenset):
        return 1 + _SIZE_OF_A_PART * len(value)
    return 1


def refuse_knots(value: Any, most: int) -> None:
    """Refuse containers that are nested deeply, or hold too many parts.

    If a list holds a second list twice, which holds a third twice, and so on,
    a few dozen lists have more parts than anyone can visit.

    Args:
        value (Any): The value that was read.
        most (int): The largest number of parts, each counted as often as it
            is held.

    Raises:
        CheckpointError: If it has more, or is nested too deeply.
    """
    # Number of parts and depth of each container; None while it is visited.
    known: dict[int, tuple[int, int] | None] = {}
    left = [(value, False)]
    while left:
        holder, is_done = left.pop()
        parts = _parts(holder)
        if not is_done:
            if id(holder) in known:
                if known[id(holder)] is None:
                    raise CheckpointError('it has a list or dict in itself.')
                continue
            known[id(holder)] = None
            left.append((holder, True))
            left += [(part, False) for part in parts if _is_holder(part)]
            continue
        number, depth = 1, 0
        for part in parts:
            if _is_holder(part):
                below = known[id(part)]
                assert below is not None  # it is done
                number, depth = number + below[0], max(depth, below[1])
            else:
                number += _weight(part)
        if number > most or depth >= MOST_DEPTH:
            raise CheckpointError(
                'its lists and dicts hold one another too often or too deeply.'
            )
        known[id(holder)] = number, depth + 1


def _is_holder(value: Any) -> bool:
    if isinstance(value, OrderedDict | Module):
        return True
    return isinstance(value, dict | list | tuple) and len(value) > 0


def _parts(holder: Any) -> Iterable[Any]:
    if isinstance(holder, Module):
        return (*holder.attributes, *holder.attributes.values())
    if isinstance(holder, OrderedDict):
        return (*holder, *holder.values(), *vars(holder).values())
    if isinstance(holder, dict):
        return (*holder, *holder.values())
    return holder if isinstance(holder, list | tuple) else (holder,)


def _weight(value: Any) -> int:
    if isinstance(value, Named | Storage):
        raise CheckpointError('it has a type instead of a value.')
    if isinstance(value, HistoryBuffer):
        return sum(map(_size, value.data)) // 8
    return 1 + _size(value) // 8
