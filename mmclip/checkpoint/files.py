"""Reading checkpoint files safely and writing them atomically."""

import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError
from safetensors.torch import load_file as load_safetensors

from mmclip.checkpoint.errors import CheckpointError

SUFFIXES = ('.pt', '.pth', '.bin', '.safetensors')


def read_checkpoint(
    path: str | Path, map_location: Any = 'cpu', *, mmap: bool = False
) -> dict[str, Any]:
    """Read a checkpoint file without executing anything that it holds.

    torch files are read with ``weights_only=True``; beyond tensors and plain
    containers only what mmengine's own checkpoints need is admitted.
    ``meta['config']`` is dropped, because mmengine's ``Runner.resume``
    executes it as Python.

    Args:
        path (str | Path): A ``.safetensors`` file or any torch file.
        map_location (Any): As in :func:`torch.load`.
        mmap (bool): Leave the tensors on disk until they are used. Defaults
            to False.

    Returns:
        dict: What the file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged or holds Python objects.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'Checkpoint {path} does not exist.')
    if path.suffix == '.safetensors':
        return _read_safetensors(path, map_location)
    try:
        with torch.serialization.safe_globals(ALLOWED):
            checkpoint = torch.load(
                path,
                map_location=map_location,
                weights_only=True,
                mmap=mmap and zipfile.is_zipfile(path),
            )
    except Exception as error:
        raise CheckpointError(_explain(path, error)) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{path} holds a {type(checkpoint).__name__}, not a dict of '
            'weights.'
        )
    if isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)
    return checkpoint


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint file, on the CPU.

    Takes plain state dicts and training checkpoints: the wrapper
    ``state_dict`` and the prefix ``module.`` of data-parallel training are
    removed.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file holds no state dict.
    """
    checkpoint = read_checkpoint(path, mmap=True)
    state_dict = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state_dict, dict) or not state_dict:
        raise CheckpointError(f'{path} holds no state dict.')
    others = [
        key
        for key, value in state_dict.items()
        if not isinstance(value, torch.Tensor)
    ]
    if others:
        raise CheckpointError(
            f'{path} holds no state dict: {_some(others)} '
            f'{"is" if len(others) == 1 else "are"} no tensor.'
        )
    if all(key.startswith('module.') for key in state_dict):
        return {k.removeprefix('module.'): v for k, v in state_dict.items()}
    return dict(state_dict)


def write_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write with :func:`torch.save`; the file appears whole or not at all.

    The same contents give the same bytes, whatever the file's name.

    Raises:
        OSError: If the file cannot be written; no partial file is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not under path's own name, not even in part: a reader must never find a
    # half-written file.
    handle, temporary = tempfile.mkstemp(prefix='.tmp-', dir=path.parent)
    try:
        with os.fdopen(handle, 'wb') as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    device = map_location if isinstance(map_location, str) else 'cpu'
    try:
        return load_safetensors(path, device=device)
    except SafetensorError as error:
        raise CheckpointError(_explain(path, error)) from error


def _explain(path: Path, error: Exception) -> str:
    """What is wrong with a file, from the exception of its library."""
    reason = str(error)
    if 'TorchScript' in reason:
        return (
            f'{path} is a TorchScript archive, which is a program, not only '
            'weights; save its state dict to a .pt file first.'
        )
    if refused := re.search(r'GLOBAL (\S+)', reason):
        return (
            f'{path} is refused: besides tensors it holds {refused[1]}, and '
            'loading that could execute code; save its state dict alone.'
        )
    lines = [
        line.strip()
        for line in reason.splitlines()
        if line.strip() and not line.startswith(_TORCHS_ADVICE)
    ]
    return (
        f'{path} is no readable checkpoint: damaged, incomplete or of another '
        f'format ({type(error).__name__}: {" ".join(lines[:1])}).'
    )


# How torch's long message for a refused pickle goes on about other things.
_TORCHS_ADVICE = (
    'Weights only load failed',
    'Please file an issue',
    'Check the documentation',
)


def _some(names: list[str], most: int = 5) -> str:
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _history_buffer_method(owner: Any, name: str) -> Callable:
    """Stand in for ``getattr``, which HistoryBuffer's pickles call.

    The real one would give a checkpoint access to any attribute of anything.
    """
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise CheckpointError(
        f'Unsupported attribute {name!r} of {owner!r} in a checkpoint.'
    )


_NUMPY = {
    '_reconstruct': np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    'scalar': np._core.multiarray.scalar,  # type: ignore[attr-defined]
}
# What the message hub of mmengine's checkpoints is made of. numpy 1 wrote
# `numpy.core` where numpy 2 writes `numpy._core`.
ALLOWED: list[Any] = [
    HistoryBuffer,
    (_history_buffer_method, 'builtins.getattr'),
    np.ndarray,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
    *((value, f'numpy._core.multiarray.{k}') for k, value in _NUMPY.items()),
    *((value, f'numpy.core.multiarray.{k}') for k, value in _NUMPY.items()),
]
