"""What mmengine's checkpoints hold besides tensors: histories and schedules.

Their pickles name functions and classes of numpy and of mmengine that accept
too much: ``getattr`` reaches anything, ``numpy.dtype`` takes flags and fields
that make numpy follow pointers out of the file, ``numpy.ndarray`` any size,
and a ``HistoryBuffer`` methods for all others of its class. The functions
here stand for them, and take numbers and texts only.
"""

import math
import re
import sys
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

from mmclip.checkpoint.files.unpickler import SMALL, Named, parts_of, shown
from mmclip.errors import CheckpointError

# Truth values, integers, floats, complex numbers, and texts of fixed width.
_DTYPES = re.compile(r'b1|[iu][1248]|f[248]|c8|c16|[US]\d{1,9}')
_STATISTICS = ('min', 'max', 'current', 'mean')
# Of one of mmengine's schedulers, whose state has one of these two: they
# compute one number from three.
_ANNEALING = ('_annealing_cos', '_annealing_linear')


def make_dtype(kind: str, *_: Any) -> np.dtype:
    """Stands for ``numpy.dtype``, of numbers and texts."""
    if not isinstance(kind, str) or not _DTYPES.fullmatch(kind):
        raise CheckpointError(f'it holds numbers of type {shown(kind)}.')
    return np.dtype(kind, copy=True)  # which can get another byte order


def fill_dtype(dtype: np.dtype, state: Any) -> None:
    """Take the byte order alone: flags and fields could be made up."""
    order = state[1]
    if order not in ('<', '>', '|', '='):
        raise CheckpointError(f'it holds numbers in the order {shown(order)}.')
    is_text = dtype.kind in 'US'
    size = (dtype.itemsize, dtype.alignment) if is_text else (-1, -1)
    state = (3, order, None, None, None, *size, 0)
    dtype.__setstate__(state)  # type: ignore[attr-defined]


def make_array(kind: Any, *_: Any) -> np.ndarray:
    """Stands for numpy's function that makes an array to be filled."""
    if not isinstance(kind, Named) or kind.name != 'numpy.ndarray':
        raise CheckpointError('it makes an array of an unknown kind.')
    return np.empty(0)


def fill_array(array: np.ndarray, state: Any) -> None:
    """Put values into an array, which must be as many as there are bytes."""
    _, shape, dtype, is_fortran, content = state
    values = _read(dtype, shape, content)
    native = values.astype(dtype.newbyteorder('='))
    state = (1, shape, native.dtype, bool(is_fortran), native.tobytes())
    array.__setstate__(state)


def _read(dtype: Any, shape: tuple[int, ...], content: Any) -> np.ndarray:
    """The values, in one row."""
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes):
        raise CheckpointError('it holds an array of objects.')
    if not all(isinstance(size, int) for size in parts_of(shape)):
        raise CheckpointError('it holds an array of an impossible shape.')
    count = math.prod(shape)
    is_real = dtype.itemsize > 0 or count == 1
    is_small = max(shape, default=0) <= max(SMALL, len(content))
    if dtype.itemsize * count != len(content) or not is_real or not is_small:
        raise CheckpointError(
            f'it holds an array that claims {count:,} values and has '
            f'{len(content)} bytes.'
        )
    if dtype.kind == 'U':
        order = np.dtype('u4').newbyteorder(dtype.byteorder)
        if np.frombuffer(content, order).max(initial=0) > sys.maxunicode:
            raise CheckpointError('it holds texts of no characters.')
    return np.ndarray((count,), dtype, content)


def make_scalar(dtype: Any, content: Any) -> Any:
    """Stands for numpy's function that makes a number or a text."""
    return _read(dtype, (), content)[0]


def make_history() -> HistoryBuffer:
    """Stands for mmengine's class; its methods are those of the class."""
    return HistoryBuffer.__new__(HistoryBuffer)


def fill_history(history: HistoryBuffer, state: dict[str, Any]) -> None:
    """Take the numbers, not the methods, which are all histories'."""
    log, counts = state['_log_history'], state['_count_history']
    if not isinstance(log, np.ndarray) or not isinstance(counts, np.ndarray):
        raise CheckpointError('it holds a history of no numbers.')
    HistoryBuffer.__init__(history, log, counts, int(state['max_length']))


def method_of(owner: Any, name: Any) -> Any:
    """Stands for ``getattr``, which the pickle calls for a few methods.

    Nothing uses those of a history, which has them anyway.
    """
    kind = owner.name.rpartition('.')[2] if isinstance(owner, Named) else ''
    if kind == 'HistoryBuffer' and name in _STATISTICS:
        return name
    if kind == 'OneCycleParamScheduler' and name in _ANNEALING:
        return getattr(OneCycleParamScheduler, name)
    raise CheckpointError(
        f'it asks for attribute {shown(name)} of {shown(owner)}.'
    )
