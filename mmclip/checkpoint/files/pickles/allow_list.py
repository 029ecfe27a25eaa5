"""All names that a pickle may use, and what replaces each of them.

No other name is looked up, and no replacement makes more than it is given.
"""

import posixpath
from collections import Counter, OrderedDict
from typing import Any

import torch

from mmclip.checkpoint.files.pickles.numbers import (
    fill_array,
    fill_dtype,
    fill_history,
    make_array,
    make_dtype,
    make_history,
    make_scalar,
    method_of,
)
from mmclip.checkpoint.files.pickles.tensors import (
    STORAGES,
    rebuild_from_type,
    rebuild_parameter,
    rebuild_tensor,
    rebuild_tensor_of_type,
)
from mmclip.checkpoint.files.pickles.unpickler import (
    Module,
    Named,
    parts_of,
    shown,
)
from mmclip.errors import CheckpointError
from mmclip.pos_embed import IMAGE_SIZE, PATCH_GRID

_METADATA = ('version', PATCH_GRID, IMAGE_SIZE)


def _encode(text: str, codec: str) -> bytes:
    """Return the bytes that protocol 2 writes as text."""
    if codec not in ('latin1', 'latin-1'):
        raise CheckpointError(f'it has bytes in the codec {shown(codec)}.')
    return text.encode('latin1')


def _no_bytes() -> bytes:
    return b''


def _plain_dict(content: Any) -> dict[Any, Any]:
    """Return the contents of a ``ConfigDict``."""
    if type(content) is not dict:
        raise CheckpointError(f'it makes a dict from {shown(content)}.')
    return content


def _default_dict(factory: Any = None) -> dict[Any, Any]:
    """Return a dict for a ``defaultdict``, whose contents come later."""
    return {}


def _namespace() -> dict[str, Any]:
    """Return a dict for a command's arguments, which timm and others save."""
    return {}


def _fill_namespace(arguments: dict[str, Any], state: Any) -> None:
    arguments |= _plain_dict(state)


def _counter(content: Any) -> Counter[Any]:
    return Counter(_plain_dict(content))


def _fill_ordered_dict(ordered: Any, state: Any) -> None:
    """Take modules' metadata only; other attributes could hide methods.

    ``assign_to_params_buffers`` is not taken either: it would make torch
    replace a model's parameters with tensors of the file's dtype.
    """
    if '_metadata' not in state:
        return
    ordered._metadata = OrderedDict()
    for name, module in state['_metadata'].items():
        known = {key: module[key] for key in _METADATA if key in module}
        is_version = isinstance(known.get('version'), int | None)
        if not is_version or not all(map(_are_numbers, known.values())):
            raise CheckpointError(
                "its modules' versions or grids are not numbers."
            )
        ordered._metadata[name] = known


def _are_numbers(value: Any) -> bool:
    parts = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(part, int | None) for part in parts)


def _fill_module(module: Module, state: Any) -> None:
    if isinstance(state, dict):
        module.attributes = state


def _content(content: Any, *_: Any) -> Any:
    """Return the contents of a typed list or dict."""
    return content


def _no_hooks() -> OrderedDict[str, Any]:
    return OrderedDict()


def _size(sides: Any) -> torch.Size:
    return torch.Size(parts_of(sides))


def _first_of_pairs(pairs: Any = ()) -> list[Any]:
    return [key for key, _ in map(parts_of, parts_of(pairs))]


_PLAIN = [
    Named('_codecs.encode', _encode),
    Named('builtins.bytes', _no_bytes),
    Named('builtins.complex', complex),
    Named('builtins.set', set, keys=parts_of),
    Named('builtins.frozenset', frozenset, keys=parts_of),
    *(Named(f'builtins.{name}') for name in ('dict', 'int', 'float', 'list')),
    Named('argparse.Namespace', _namespace, _fill_namespace),
    Named('collections.Counter', _counter),
    Named('collections.defaultdict', _default_dict),
    Named(
        'collections.OrderedDict',
        OrderedDict,
        _fill_ordered_dict,
        keys=_first_of_pairs,
    ),
    Named('pathlib.PosixPath', posixpath.join),
]
_TORCH = [
    Named('torch._utils._rebuild_tensor', rebuild_tensor),
    Named('torch._utils._rebuild_tensor_v2', rebuild_tensor),
    Named('torch._utils._rebuild_tensor_v3', rebuild_tensor_of_type),
    Named('torch._utils._rebuild_parameter', rebuild_parameter),
    Named('torch._utils._rebuild_parameter_with_state', rebuild_parameter),
    Named('torch._tensor._rebuild_from_type_v2', rebuild_from_type),
    Named('torch.Tensor'),
    Named('torch.nn.parameter.Parameter'),
    Named('torch.Size', _size),
    Named('torch.device', torch.device),
    Named('torch.storage.UntypedStorage'),
    *(Named(f'torch.{name}', dtype=STORAGES[name]) for name in STORAGES),
]
_NUMPY = [
    Named('numpy.ndarray'),
    Named('numpy.dtype', make_dtype, fill_dtype),
    # numpy 1 wrote `numpy.core` where numpy 2 writes `numpy._core`.
    *(
        Named(f'numpy.{core}.multiarray.{name}', *stands)
        for core in ('_core', 'core')
        for name, *stands in (
            ('_reconstruct', make_array, fill_array, True),
            ('scalar', make_scalar),
        )
    ),
]
_MMENGINE = [
    Named('builtins.getattr', method_of),
    Named('mmengine.config.config.ConfigDict', _plain_dict),
    Named(
        'mmengine.logging.history_buffer.HistoryBuffer',
        make_history,
        fill_history,
        is_hollow=True,
    ),
    Named(
        'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler',
    ),
]
# Values, not functions.
_DTYPES = {
    str(dtype): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype)
}
NAMES: dict[str, Any] = _DTYPES | {
    named.name: named for named in (*_PLAIN, *_TORCH, *_NUMPY, *_MMENGINE)
}
# TorchScript's wrappers of typed lists and dicts, called with the contents and
# then a description of the type.
NAMES_OF_TORCHSCRIPT: dict[str, Any] = (
    NAMES
    | {
        'collections.OrderedDict': Named('collections.OrderedDict', _no_hooks),
    }
    | {
        f'torch.jit._pickle.{name}': Named(name, _content)
        for name in (
            'restore_type_tag',
            'build_intlist',
            'build_tensorlist',
            'build_doublelist',
            'build_boollist',
        )
    }
)
MODULE = Named('a module', Module, _fill_module)
