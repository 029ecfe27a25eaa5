"""The writer of weights: files appear whole or not at all."""

import errno
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from mmclip.checkpoint.files.atomic import atomic_file


def write_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint; the file appears whole or not at all.

    A ``.safetensors`` file gets the tensors of ``state_dict`` and, in its
    header, ``meta['clip']``; any other is written by :func:`torch.save`. The
    same contents give the same bytes, whatever the file's name.

    Raises:
        OSError: If the file cannot be written; no partial file is left.
    """
    path = Path(path)
    with atomic_file(path) as temporary:
        if path.suffix == '.safetensors':
            _write_safetensors(checkpoint, temporary)
        else:
            with open(temporary, 'wb') as file:
                try:
                    torch.save(checkpoint, file)
                except RuntimeError as error:
                    # torch's writer fails again as it closes; raise the cause.
                    if isinstance(error.__context__, OSError):
                        raise error.__context__ from None
                    raise


def _write_safetensors(checkpoint: dict[str, Any], path: Path) -> None:
    header = {'format': 'pt'}
    if clip := checkpoint.get('meta', {}).get('clip'):
        header['clip'] = json.dumps(clip)
    tensors = checkpoint['state_dict']
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    # Clones: safetensors refuses tensors that share memory.
    users = Counter(map(_memory, tensors.values()))
    tensors = {
        key: tensor.clone() if users[_memory(tensor)] > 1 else tensor
        for key, tensor in tensors.items()
    }
    try:
        save_file(tensors, path, header)
    except SafetensorError as error:  # most often a full disk
        raise OSError(errno.EIO, str(error)) from error


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
