"""Safetensors files with ``meta['clip']`` in the header."""

import errno
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mmclip.checkpoint.files.unpickler import refuse_knots


class SafetensorsFile:
    """A file of safetensors, which has no check sums.

    Args:
        path (Path): The file.

    Raises:
        CheckpointError: If its description of itself is refused; without the
            file's name.
        SafetensorError: If it is damaged.
    """

    kind = 'safetensors'

    def __init__(self, path: Path):
        self._file = safe_open(path, framework='pt', device='cpu')
        self._meta = {}
        header = (self._file.metadata() or {}).get('clip')
        if header is not None:
            self._meta = dict(clip=json.loads(header))
            refuse_knots(self._meta, len(header))

    def load(self, map_location: Any, *, mapped: bool) -> dict[str, Any]:
        """What :func:`write_safetensors` was given; of others the tensors.

        Args:
            map_location (Any): Where the tensors shall be, if it is a device.
            mapped (bool): Leave them on disk until they are used; those that
                are not aligned there must be copied then.
        """
        is_device = isinstance(map_location, str | torch.device)
        device = map_location if is_device else 'cpu'
        keys = self._file.keys()
        tensors = {key: self._file.get_tensor(key) for key in keys}
        if not mapped:
            tensors = {k: aligned(t.to(device)) for k, t in tensors.items()}
        if not self._meta:
            return tensors
        return dict(meta=self._meta, state_dict=tensors)

    def check_sums(self) -> None:
        """Compare nothing."""


def aligned(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor, copied if it is not aligned in its file."""
    is_aligned = tensor.data_ptr() % tensor.itemsize == 0
    return tensor if is_aligned else tensor.clone()


def write_safetensors(checkpoint: dict[str, Any], path: Path) -> None:
    """Write ``state_dict`` and, of ``meta``, ``clip``.

    Raises:
        OSError: If it cannot be written.
    """
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
    except SafetensorError as error:  # a full disk, above all
        raise OSError(errno.EIO, str(error)) from error


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def is_safetensors(start: bytes, size: int, suffix: str) -> bool:
    """Whether a file is one of safetensors, by what it begins with.

    One that begins as nothing that torch writes is what its suffix says.

    Args:
        start (bytes): Nine bytes at least, if there are as many.
        size (int): Of the file.
        suffix (str): Of its name.
    """
    if len(start) > 8 and start[8:9] == b'{':
        return int.from_bytes(start[:8], 'little') < size
    is_torchs = start.startswith((b'PK\x03\x04', b'\x80'))
    return suffix == '.safetensors' and not is_torchs
