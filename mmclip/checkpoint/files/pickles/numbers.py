"""Histories and schedules in the pickles of mmengine's checkpoints.

Such pickles name functions and classes of numpy and mmengine that accept too
much: ``getattr`` reaches anything, ``numpy.dtype`` takes flags and fields that
make numpy follow pointers from the file, ``numpy.ndarray`` takes any size, and
``HistoryBuffer`` takes methods for its whole class. The functions here replace
them, and take only numbers and texts.
"""

import math
import re
import sys
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

from mmclip.checkpoint.files.pickles.unpickler import (
    SMALL,
    Named,
    parts_of,
    shown,
)
from mmclip.errors import CheckpointError

# Booleans, integers, floats, complex numbers, and texts of fixed width.
_DTYPES = re.compile(r'b1|[iu][1248]|f[248]|c8|c16|[US]\d{1,9}')
_STATISTICS = ('min', 'max', 'current', 'mean')
# Methods in the state of one of mmengine's schedulers, which compute one
# number from three.
_ANNEALING = ('_annealing_cos', '_annealing_linear')


def make_dtype(kind: str, *_: Any) -> np.dtype:
    """Replace ``numpy.dtype``, for numbers and texts only."""
    if not isinstance(kind, str) or not _DTYPES.fullmatch(kind):
        raise CheckpointError(f'it has numbers of type {shown(kind)}.')
    return np.dtype(kind, copy=True)  # a copy, whose byte order may be set


def fill_dtype(dtype: np.dtype, state: Any) -> None:
    """Set the byte order only; flags and fields could be forged."""
    order = state[1]
    if order not in ('<', '>', '|', '='):
        raise CheckpointError(f'it has numbers in byte order {shown(order)}.')
    is_text = dtype.kind in 'US'
    size = (dtype.itemsize, dtype.alignment) if is_text else (-1, -1)
    state = (3, order, None, None, None, *size, 0)
    dtype.__setstate__(state)  # type: ignore[attr-defined]


def make_array(kind: Any, *_: Any) -> np.ndarray:
    """Replace numpy's function that makes an array to fill."""
    if not isinstance(kind, Named) or kind.name != 'numpy.ndarray':
        raise CheckpointError('it makes an array of an unknown kind.')
    return np.empty(0)


def fill_array(array: np.ndarray, state: Any) -> None:
    """Fill an array, if it has as many bytes as its shape needs."""
    _, shape, dtype, is_fortran, content = state
    values = _read(dtype, shape, content)
    native = values.astype(dtype.newbyteorder('='))
    state = (1, shape, native.dtype, bool(is_fortran), native.tobytes())
    array.__setstate__(state)


def _read(dtype: Any, shape: tuple[int, ...], content: Any) -> np.ndarray:
    """Return the values in one row."""
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes):
        raise CheckpointError('it has an array of objects.')
    if not all(isinstance(size, int) for size in parts_of(shape)):
        raise CheckpointError('it has an array with an impossible shape.')
    count = math.prod(shape)
    is_real = dtype.itemsize > 0 or count == 1
    is_small = max(shape, default=0) <= max(SMALL, len(content))
    if dtype.itemsize * count != len(content) or not is_real or not is_small:
        raise CheckpointError(
            f'it has an array that claims {count:,} values but has '
            f'{len(content)} bytes.'
        )
    if dtype.kind == 'U':
        order = np.dtype('u4').newbyteorder(dtype.byteorder)
        if np.frombuffer(content, order).max(initial=0) > sys.maxunicode:
            raise CheckpointError('it has texts with invalid characters.')
    return np.ndarray((count,), dtype, content)


def make_scalar(dtype: Any, content: Any) -> Any:
    """Replace numpy's function that makes a number or a text."""
    return _read(dtype, (), content)[0]


def make_history() -> HistoryBuffer:
    """Replace the construction of mmengine's class, without methods."""
    return HistoryBuffer.__new__(HistoryBuffer)


def fill_history(history: HistoryBuffer, state: dict[str, Any]) -> None:
    """Take the numbers, but not the methods, which all histories share."""
    log, counts = state['_log_history'], state['_count_history']
    if not isinstance(log, np.ndarray) or not isinstance(counts, np.ndarray):
        raise CheckpointError('it has a history that is not numbers.')
    HistoryBuffer.__init__(history, log, counts, int(state['max_length']))


def method_of(owner: Any, name: Any) -> Any:
    """Replace ``getattr``, which the pickle calls for a few methods.

    A history's methods are not needed: it has them already.
    """
    kind = owner.name.rpartition('.')[2] if isinstance(owner, Named) else ''
    if kind == 'HistoryBuffer' and name in _STATISTICS:
        return name
    if kind == 'OneCycleParamScheduler' and name in _ANNEALING:
        # Importing it takes a second, and few files need it.
        from mmengine.optim.scheduler import param_scheduler

        return getattr(param_scheduler.OneCycleParamScheduler, name)
    raise CheckpointError(
        f'it asks for attribute {shown(name)} of {shown(owner)}.'
    )
