"""Checkpoints that torch reads safely without knowing mmengine or numpy.

mmengine pickles its ``HistoryBuffer``, its ``ConfigDict`` and numbers of
numpy, which torch's safe loading refuses: so inference in other packages, and
mmpretrain's tools, could not read what a training wrote unless something
imports mmclip first.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

HISTORY = {'values', 'counts', 'max_length'}


def write_plainly(checkpoint: dict[str, Any]) -> None:
    """Put plain values into a checkpoint's meta and message hub.

    Histories become dicts of two tensors, arrays lists, and numbers of numpy
    Python's; what is of another kind stays.
    """
    for part in ('meta', 'message_hub'):
        if part in checkpoint:
            checkpoint[part] = _plain(checkpoint[part])


def read_plainly(checkpoint: dict[str, Any]) -> None:
    """Make histories again, as mmengine's ``MessageHub`` resumes them.

    It skips, and says so, what is anything else.
    """
    hub = checkpoint.get('message_hub')
    scalars = hub.get('log_scalars') if isinstance(hub, dict) else None
    if not isinstance(scalars, dict):
        return
    for name, plain in scalars.items():
        if isinstance(plain, dict) and set(plain) == HISTORY:
            values, counts = plain['values'], plain['counts']
            if _are_series(values, counts):
                scalars[name] = HistoryBuffer(
                    values.cpu().numpy(),
                    counts.cpu().numpy(),
                    int(plain['max_length']),
                )


def _plain(value: Any) -> Any:
    if isinstance(value, HistoryBuffer):
        values, counts = map(torch.as_tensor, value.data)
        return dict(values=values, counts=counts, max_length=value.max_length)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    return value


def _are_series(*values: Any) -> bool:
    return (
        all(isinstance(v, torch.Tensor) and v.ndim == 1 for v in values)
        and len({len(v) for v in values}) == 1
    )
