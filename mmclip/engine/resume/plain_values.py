"""Conversion of checkpoint contents to what torch's safe loader can read.

A config or a package may put anything into ``meta`` and the message hub.
``torch.load`` reads plain containers, numbers, strings and tensors, even
without mmclip.
"""

import datetime
import enum
import logging
import math
import numbers
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

from mmclip.errors import CheckpointError

MOST_NESTED = 100
_PLAIN = (type(None), bool, int, float, str, bytes)
_AS_TEXT = (
    PurePath,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    torch.dtype,
    torch.device,
    complex,
)
_HISTORY = {'log_history', 'count_history', 'max_length'}


class _NoValue(Exception):
    """A value has no plain form."""


def make_plain(
    checkpoint: dict[str, Any], said: set[str], *, quiet: bool = False
) -> None:
    """Replace, in place, everything that torch's safe loader would refuse.

    Numbers and arrays of other packages become Python's; sets become sorted
    lists; paths, dates and dtypes become strings; histories of logged values
    become tensors (see :func:`restore_histories`). Values without a plain
    form are left out with a warning. Weights stay as they are.

    Args:
        checkpoint (dict): The checkpoint about to be written.
        said (set[str]): Warnings that are not repeated; new ones are added.
        quiet (bool): Whether to suppress warnings. Defaults to False.
    """
    for key in list(checkpoint):
        if key.endswith('state_dict'):
            continue  # tensors and torch's metadata
        value = checkpoint[key]
        if key == 'param_schedulers':
            value = _without_functions(value)
        checkpoint[key] = _Writer(said, quiet).convert(value, key)


def restore_plain(runner: Any, checkpoint: dict[str, Any]) -> None:
    """Restore the objects that :func:`make_plain` replaced, to resume a run.

    These are the histories of logged values and, if unchanged, the metainfo
    of the data set. Otherwise, mmengine would warn about another data set
    just because an array was written as a list.

    Args:
        runner (Runner): The runner about to resume.
        checkpoint (dict): The checkpoint as read, changed in place.

    Raises:
        CheckpointError: If a history is damaged.
    """
    restore_histories(checkpoint, str(runner._load_from or runner._resume))
    metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', None)
    own = dict(dataset_meta=metainfo)
    make_plain(own, set(), quiet=True)
    meta = checkpoint.get('meta')
    if isinstance(meta, dict) and same(
        meta.get('dataset_meta'), own['dataset_meta']
    ):
        meta['dataset_meta'] = metainfo


def plain(value: Any) -> Any:
    """Convert a setting to numbers, strings, lists and dicts, to compare it.

    A path becomes its last part, so that files may be moved, and code becomes
    its name.
    """
    if isinstance(value, np.generic | np.ndarray | torch.Tensor):
        return value.tolist()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value.rpartition('/')[2]
    if isinstance(value, Counter):  # the milestones of a schedule
        return sorted(value.elements())
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return getattr(value, '__name__', type(value).__name__)


def same(one: Any, other: Any) -> bool:
    """Tell whether two plain values mean the same."""
    number = bool | int | float
    if isinstance(one, number) and isinstance(other, number):
        return one == other or math.isclose(one, other, rel_tol=1e-9)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same(one[key], other[key]) for key in one
        )
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and one == other


def restore_histories(checkpoint: dict[str, Any], where: str) -> None:
    """Rebuild the histories that :func:`make_plain` wrote as tensors.

    Args:
        checkpoint (dict): The checkpoint as read, changed in place.
        where (str): Its path, for errors.

    Raises:
        CheckpointError: If one is damaged.
    """
    hub = checkpoint.get('message_hub')
    scalars = hub.get('log_scalars') if isinstance(hub, dict) else None
    if not isinstance(scalars, dict):
        return
    for name, value in scalars.items():
        if not isinstance(value, dict) or set(value) != _HISTORY:
            continue
        log, counts = value['log_history'], value['count_history']
        most = value['max_length']
        if not (
            isinstance(log, torch.Tensor)
            and isinstance(counts, torch.Tensor)
            and log.shape == counts.shape
            and log.ndim == 1
            and type(most) is int
        ):
            raise CheckpointError(
                f'{where}: the history of {name} is damaged.'
            )
        scalars[name] = HistoryBuffer(
            log.cpu().numpy(), counts.cpu().numpy(), most
        )


def _without_functions(schedulers: Any) -> Any:
    """Drop functions from schedulers' states; constructors restore them."""
    if isinstance(schedulers, dict):
        return {
            key: value
            if key == 'param_schedulers'
            else _without_functions(value)
            for key, value in schedulers.items()
            if not callable(value)
        }
    if isinstance(schedulers, list):
        return [_without_functions(value) for value in schedulers]
    return schedulers


class _Writer:
    """A converter of one value, which converts each container once."""

    def __init__(self, said: set[str], quiet: bool):
        self._said, self._quiet = said, quiet
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()

    def convert(self, value: Any, where: str) -> Any:
        try:
            return self._convert(value, where)
        except _NoValue:
            return None

    def _convert(self, value: Any, where: str) -> Any:
        if type(value) in _PLAIN:
            return value
        if isinstance(value, torch.Tensor):
            is_torchs = type(value).__module__.partition('.')[0] == 'torch'
            return value if is_torchs else value.as_subclass(torch.Tensor)
        if isinstance(value, enum.Enum):
            return self._convert(value.value, where)
        plain: Any
        for plain in (str, int, float):  # np.float64 is a float, too
            if isinstance(value, plain):
                return plain(value)
        if isinstance(value, bytes | bytearray):
            return bytes(value)
        if isinstance(value, _AS_TEXT):
            return str(value)
        if isinstance(value, np.bool_):
            return bool(value)
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real):
            return float(value)
        if isinstance(value, HistoryBuffer | np.ndarray | Iterable):
            return self._container(value, where)
        raise self._nothing(value, where)

    def _container(self, value: Any, where: str) -> Any:
        if id(value) in self._done:
            return self._done[id(value)][1]
        if id(value) in self._open or len(self._open) > MOST_NESTED:
            raise self._nothing(value, where)
        self._open.add(id(value))
        try:
            made = self._make(value, where)
        finally:
            self._open.discard(id(value))
        self._done[id(value)] = value, made  # kept alive to keep its id
        return made

    def _make(self, value: Any, where: str) -> Any:
        if isinstance(value, HistoryBuffer):
            return self._history(value, where)
        if isinstance(value, np.ndarray):
            return self._convert(value.tolist(), where)
        if isinstance(value, Mapping):
            pairs = ((self._key(k), k, value[k]) for k in value)
            return {
                key: part
                for key, k, v in pairs
                for part in self._part(v, f'{where}[{k!r}]')
            }
        if isinstance(value, Set):
            value = sorted(value, key=lambda v: (type(v).__name__, str(v)))
        elif not isinstance(value, Sequence | Iterable) or not hasattr(
            value, '__len__'
        ):
            raise self._nothing(value, where)
        parts = [
            part
            for i, v in enumerate(value)
            for part in self._part(v, f'{where}[{i}]')
        ]
        return tuple(parts) if isinstance(value, tuple) else parts

    def _part(self, value: Any, where: str) -> list[Any]:
        """Return one value, or none if it has no plain form."""
        try:
            return [self._convert(value, where)]
        except _NoValue:
            return []

    def _key(self, key: Any) -> Any:
        if type(key) in (type(None), bool, int, float, str):
            return key
        if isinstance(key, np.bool_ | np.integer):
            return key.item()
        return str(key.value if isinstance(key, enum.Enum) else key)

    def _history(self, history: HistoryBuffer, where: str) -> dict[str, Any]:
        log, counts = history.data
        try:
            return dict(
                log_history=torch.tensor(log),
                count_history=torch.tensor(counts),
                max_length=int(history.max_length),
            )
        except TypeError:  # not a history of numbers
            raise self._nothing(history, where) from None

    def _nothing(self, value: Any, where: str) -> _NoValue:
        if where not in self._said and not self._quiet:
            self._said.add(where)
            print_log(
                f'Checkpoints are written without {where}: its '
                f'{type(value).__name__} could not be read again.',
                logger='current',
                level=logging.WARNING,
            )
        return _NoValue()
