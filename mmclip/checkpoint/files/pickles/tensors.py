"""Tensors in pickles: storages and views of them."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from mmclip.checkpoint.files.pickles.unpickler import (
    SMALL,
    Named,
    Storage,
    parts_of,
)
from mmclip.errors import CheckpointError

MOST_DIMENSIONS = 64
STORAGES = {
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
    'ComplexFloatStorage': torch.complex64,
    'ComplexDoubleStorage': torch.complex128,
}


def rebuild_tensor(
    storage: Any,
    offset: int,
    size: Any,
    stride: Any,
    requires_grad: bool = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    """Return a tensor that views a storage, without hooks.

    Args:
        storage (Storage): The storage of its values.
        offset (int): The index of its first value in the storage.
        size (tuple[int]): Its size in each dimension.
        stride (tuple[int]): The step in each dimension, in values.
        requires_grad (bool): Whether it is trained. Defaults to False.
        hooks (Any): Ignored.
        metadata (dict): Whether its values are conjugated or negated.

    Raises:
        CheckpointError: If it is larger than its storage.
    """
    if not isinstance(storage, Storage) or storage.dtype is None:
        raise CheckpointError('it has a tensor without a storage.')
    return _view(
        storage, storage.dtype, offset, size, stride, requires_grad, metadata
    )


def rebuild_tensor_of_type(
    storage: Any,
    offset: int,
    size: Any,
    stride: Any,
    requires_grad: bool,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor:
    """Return a tensor of a type that has no storage class of its own.

    Otherwise like :func:`rebuild_tensor`.

    Raises:
        CheckpointError: If it is larger than its storage.
    """
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise CheckpointError('it has a tensor without a storage.')
    return _view(storage, dtype, offset, size, stride, requires_grad, metadata)


def _view(
    storage: Storage,
    dtype: torch.dtype,
    offset: int,
    size: Any,
    stride: Any,
    requires_grad: bool,
    metadata: Any,
) -> Tensor:
    size, stride = tuple(parts_of(size)), tuple(parts_of(stride))
    numbers = (offset, *size, *stride)
    if (
        not all(isinstance(number, int) for number in numbers)
        or not 0 <= min(numbers) <= max(numbers) < 2**62
        or len(size) != len(stride)
        or len(size) > MOST_DIMENSIONS
        or math.prod(size) * dtype.itemsize >= 2**62
    ):
        raise CheckpointError('it has a tensor with an impossible shape.')
    held = storage.values.nbytes() // dtype.itemsize
    steps = zip(size, stride, strict=True)
    last = offset + sum((n - 1) * step for n, step in steps)
    is_empty = 0 in size
    if max(size) > SMALL if is_empty else last >= held:
        raise CheckpointError('it has a tensor larger than its storage.')
    device = storage.values.device
    tensor = torch.empty(0, dtype=dtype, device=device)
    tensor.set_(storage.values, 0 if is_empty else offset, size, stride)
    if metadata:
        for name, value in metadata.items():
            if name not in ('conj', 'neg') or not isinstance(value, bool):
                raise CheckpointError('it has a tensor with unknown metadata.')
        torch._utils.set_tensor_metadata(tensor, metadata)
    return tensor.requires_grad_(bool(requires_grad))


def rebuild_parameter(
    tensor: Any, requires_grad: bool, hooks: Any, state: Any = None
) -> nn.Parameter:
    """Return a parameter, without its hooks and attributes.

    Raises:
        CheckpointError: If it is not made from a tensor.
    """
    if not isinstance(tensor, Tensor):
        raise CheckpointError('it has a parameter without a tensor.')
    return nn.Parameter(tensor, bool(requires_grad))


def rebuild_from_type(
    rebuild: Any, kind: Any, args: Any, state: Any
) -> Tensor:
    """Return a tensor without its attributes.

    Raises:
        CheckpointError: If its class is not torch's own.
    """
    if (
        not isinstance(rebuild, Named)
        or rebuild.call not in _REBUILDS
        or not isinstance(kind, Named)
        or kind.name not in ('torch.Tensor', 'torch.nn.parameter.Parameter')
    ):
        raise CheckpointError('it has a tensor of an unknown class.')
    return rebuild.call(*parts_of(args))


_REBUILDS = (rebuild_tensor, rebuild_tensor_of_type, rebuild_parameter)
