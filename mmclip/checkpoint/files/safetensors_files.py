"""Safetensors files with ``meta['clip']`` in the header."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

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
        """What was written, see :mod:`.writing`; of others the tensors.

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
        return dict(meta=dict(self._meta), state_dict=tensors)


def aligned(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor, copied if it is not aligned in its file."""
    is_aligned = tensor.data_ptr() % tensor.itemsize == 0
    return tensor if is_aligned else tensor.clone()


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
