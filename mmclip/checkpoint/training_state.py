"""What mmengine's checkpoints hold besides tensors: histories and schedules.

Their pickles name functions and classes of numpy and of mmengine that accept
too much: ``getattr`` reaches anything, ``numpy.dtype`` takes flags and fields
that make numpy follow pointers out of the file, ``numpy.ndarray`` any size,
and a ``HistoryBuffer`` methods for all others of its class. So each name
stands for a small class or function here, which takes numbers only. (One
stands for nothing but the owner of two functions, of ``OneCycleLR``.)
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

from mmclip.checkpoint.errors import CheckpointError

METHODS = ('min', 'max', 'current', 'mean')


class _Dtype:
    """Stands for ``numpy.dtype``, of numbers."""

    def __init__(self, kind: str, *_: Any):
        if not isinstance(kind, str) or not re.fullmatch('[bif][1248]', kind):
            raise CheckpointError(f'it holds numbers of type {kind!r}.')
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: Any) -> None:
        _, order, *_ = state
        self.dtype = self.dtype.newbyteorder(order)

    def read(self, content: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers from their bytes, which must be as many."""
        native = self.dtype.newbyteorder('=')
        return np.array(
            np.ndarray(shape, self.dtype, bytes(memoryview(content))), native
        )


class _Array:
    """Stands for ``numpy.ndarray``, made empty and then filled."""

    values: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _Dtype):
            raise CheckpointError('it holds an array of objects.')
        if dtype.dtype.itemsize * _product(shape) != len(content):
            raise CheckpointError(
                f'it holds an array that claims the shape {shape} and has '
                f'{len(content)} bytes.'
            )
        order = shape[::-1] if is_fortran else shape
        values = dtype.read(content, order)
        self.values = values.T if is_fortran else values


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _reconstruct(cls: type, *_: Any) -> _Array:
    if cls is not _Array:
        raise CheckpointError(f'it makes an array of {cls!r}.')
    return _Array()


def _scalar(dtype: _Dtype, content: bytes) -> Any:
    if not isinstance(dtype, _Dtype) or len(content) != dtype.dtype.itemsize:
        raise CheckpointError('it holds a number of the wrong size.')
    return dtype.read(content, ())[()]


class _History(HistoryBuffer):
    """Becomes a HistoryBuffer; its methods are those of the class."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        log, counts = state['_log_history'], state['_count_history']
        if type(log) is not _Array or type(counts) is not _Array:
            raise CheckpointError('it holds a history of no numbers.')
        self.__class__ = HistoryBuffer
        HistoryBuffer.__init__(
            self, log.values, counts.values, int(state['max_length'])
        )


class _OneCycle:
    """Stands for mmengine's scheduler, whose state has one of two functions.

    They compute one number from three.
    """

    functions = ('_annealing_cos', '_annealing_linear')


def _method(owner: type, name: str) -> Any:
    """Stands for ``getattr``, which the pickle calls for a few methods.

    Nothing uses those of a history, which has them anyway.
    """
    if owner is _History and name in METHODS:
        return name
    if owner is _OneCycle and name in _OneCycle.functions:
        return getattr(OneCycleParamScheduler, name)
    raise CheckpointError(f'it asks for attribute {name!r} of {owner!r}.')


# numpy 1 wrote `numpy.core` where numpy 2 writes `numpy._core`.
ALLOWED: list[Any] = [
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_OneCycle, f'{OneCycleParamScheduler.__module__}.OneCycleParamScheduler'),
    (_method, 'builtins.getattr'),
    (_Array, 'numpy.ndarray'),
    (_Dtype, 'numpy.dtype'),
    (_reconstruct, 'numpy._core.multiarray._reconstruct'),
    (_scalar, 'numpy._core.multiarray.scalar'),
    (_reconstruct, 'numpy.core.multiarray._reconstruct'),
    (_scalar, 'numpy.core.multiarray.scalar'),
]

_one_at_a_time = threading.RLock()


@contextmanager
def only_allowed() -> Iterator[None]:
    """Let torch's safe unpickler know these names, and torch's own classes.

    Other libraries may have told torch of more. Its list is the process's, so
    threads take turns: of two at once, the second would put back the first
    one's list as torch's own.
    """
    with _one_at_a_time:
        before = torch.serialization.get_safe_globals()
        torchs = [
            allowed
            for allowed in before
            if isinstance(allowed, type)
            and allowed.__module__.partition('.')[0] == 'torch'
        ]
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals([*torchs, *ALLOWED])
        try:
            yield
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(before)


def unwrap(value: Any) -> Any:
    """Put arrays where stand-ins are, in nested dicts, lists and tuples.

    Raises:
        CheckpointError: If a stand-in is left that is no array.
        RecursionError: If it is nested too deeply for anyone to read.
    """
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, _Dtype | _History | _OneCycle | type):
        raise CheckpointError('it holds a type, and no values of it.')
    if isinstance(value, dict):
        for key, part in value.items():
            value[key] = unwrap(part)  # changes no key
    elif isinstance(value, list):
        value[:] = map(unwrap, value)
    elif type(value) is tuple:
        return tuple(map(unwrap, value))
    return value
