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
from collections.abc import Iterable, Mapping, Set
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

from mmclip.errors import CheckpointError

MOST_NESTED = 100
_AS_TEXT = (
    PurePath,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    torch.dtype,
    torch.device,
    complex,
)
# Subclasses of Python's types, and types of other packages.
_FORMS: tuple[tuple[Any, Any], ...] = (
    (str, str),
    (bytes | bytearray, bytes),
    (_AS_TEXT, str),
    (np.bool_, bool),
    (numbers.Integral, int),
    (numbers.Real, float),
)
_HISTORY = {'log_history', 'count_history', 'max_length'}


_NOTHING = object()  # the form of a value without a plain one


def make_plain(checkpoint: dict[str, Any], said: set[str]) -> None:
    """Replace, in place, everything that torch's safe loader would refuse.

    Numbers and arrays of other packages become Python's; sets become sorted
    lists; paths, dates and dtypes become strings; histories of logged values
    become tensors (see :func:`restore_histories`). Values without a plain
    form are left out with a warning, which ``said`` keeps from being repeated;
    functions of schedulers without one, since constructors restore them.
    Weights stay as they are.
    """
    for key, value in checkpoint.items():
        if not key.endswith('state_dict'):  # tensors and torch's metadata
            checkpoint[key] = _make_plain(value, key, said)


def _make_plain(value: Any, where: str, said: set[str] | None) -> Any:
    made = _Writer(said).convert(value, where)
    return None if made is _NOTHING else made


def restore_plain(runner: Any, checkpoint: dict[str, Any]) -> None:
    """Restore the objects that :func:`make_plain` replaced, to resume a run.

    These are the histories of logged values and, if unchanged, the metainfo
    of the data set. Otherwise, mmengine would warn about another data set
    just because an array was written as a list.
    """
    restore_histories(checkpoint, str(runner._load_from or runner._resume))
    metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', None)
    own = _make_plain(metainfo, '', None)
    meta = checkpoint.get('meta')
    if isinstance(meta, dict) and same(meta.get('dataset_meta'), own):
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
    """Rebuild the histories that :func:`make_plain` wrote as tensors."""
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


class _Writer:
    """A converter of one value, which converts each container once."""

    def __init__(self, said: set[str] | None):
        self._said = said
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()

    def convert(self, value: Any, where: str) -> Any:
        """Return the plain form of a value, or ``_NOTHING``."""
        if value is None or type(value) in (bool, int, float, str, bytes):
            return value
        if isinstance(value, torch.Tensor):
            is_torchs = type(value).__module__.partition('.')[0] == 'torch'
            return value if is_torchs else value.as_subclass(torch.Tensor)
        if isinstance(value, enum.Enum):
            return self.convert(value.value, where)
        for kind, make in _FORMS:
            if isinstance(value, kind):
                return make(value)
        if isinstance(value, HistoryBuffer | Iterable):
            return self._container(value, where)
        return self._nothing(value, where)

    def _container(self, value: Any, where: str) -> Any:
        if id(value) in self._done:
            return self._done[id(value)][1]
        if id(value) in self._open or len(self._open) > MOST_NESTED:
            return self._nothing(value, where)
        self._open.add(id(value))
        made = self._make(value, where)
        self._open.discard(id(value))
        self._done[id(value)] = value, made  # kept alive to keep its id
        return made

    def _make(self, value: Any, where: str) -> Any:
        if isinstance(value, HistoryBuffer):
            return self._history(value, where)
        if isinstance(value, np.ndarray):
            return self.convert(value.tolist(), where)
        if isinstance(value, Mapping):
            pairs = {
                _key(key): self.convert(value[key], f'{where}[{key!r}]')
                for key in value
            }
            return {k: v for k, v in pairs.items() if v is not _NOTHING}
        if not hasattr(value, '__len__'):
            return self._nothing(value, where)
        if isinstance(value, Set):
            value = sorted(value, key=lambda v: (type(v).__name__, str(v)))
        parts = [self.convert(v, f'{where}[{i}]') for i, v in enumerate(value)]
        parts = [part for part in parts if part is not _NOTHING]
        return tuple(parts) if isinstance(value, tuple) else parts

    def _history(self, history: HistoryBuffer, where: str) -> Any:
        log, counts = history.data
        try:
            return dict(
                log_history=torch.tensor(log),
                count_history=torch.tensor(counts),
                max_length=int(history.max_length),
            )
        except TypeError:  # not a history of numbers
            return self._nothing(history, where)

    def _nothing(self, value: Any, where: str) -> Any:
        is_known = callable(value) and where.startswith('param_schedulers')
        if self._said is not None and where not in self._said and not is_known:
            self._said.add(where)
            print_log(
                f'Checkpoints are written without {where}: its '
                f'{type(value).__name__} could not be read again.',
                logger='current',
                level=logging.WARNING,
            )
        return _NOTHING


def _key(key: Any) -> Any:
    if type(key) in (type(None), bool, int, float, str):
        return key
    if isinstance(key, np.bool_ | np.integer):
        return key.item()
    return str(key.value if isinstance(key, enum.Enum) else key)
