"""Safetensors files with ``meta['clip']`` in the header."""

import json
from typing import Any, BinaryIO

import torch
from safetensors import safe_open

from mmclip.checkpoint.files.archive import same_file
from mmclip.checkpoint.files.pickles.unpickler import refuse_knots


class SafetensorsFile:
    """A safetensors file, which has no checksums.

    Args:
        file (BinaryIO): The open file, which may be closed afterwards.

    Raises:
        CheckpointError: If ``clip`` in its header is refused; does not name
            the file.
        SafetensorError: If it is damaged.
    """

    kind = 'safetensors'

    def __init__(self, file: BinaryIO):
        self._file = safe_open(same_file(file), framework='pt', device='cpu')
        self._meta = {}
        header = (self._file.metadata() or {}).get('clip')
        if header is not None:
            self._meta = dict(clip=json.loads(header))
            refuse_knots(self._meta, len(header))

    def load(self, map_location: Any, *, mapped: bool) -> dict[str, Any]:
        """Return what :mod:`.writing` wrote, or the tensors of other files.

        Args:
            map_location (Any): The device of the tensors; ignored if it is
                not a device.
            mapped (bool): Leave tensors on disk until they are used; the
                caller must then copy unaligned ones.
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
    """Return a tensor, copied if it is not aligned in its file."""
    is_aligned = tensor.data_ptr() % tensor.itemsize == 0
    return tensor if is_aligned else tensor.clone()


def is_safetensors(start: bytes, size: int, suffix: str) -> bool:
    """Return whether a file is in safetensors format, from its first bytes.

    The suffix decides if it starts like no file of torch either.

    Args:
        start (bytes): Its first bytes: at least nine, if it has as many.
        size (int): Its size.
        suffix (str): Its suffix.
    """
    if len(start) > 8 and start[8:9] == b'{':
        return int.from_bytes(start[:8], 'little') < size
    is_torchs = start.startswith((b'PK\x03\x04', b'\x80'))
    return suffix == '.safetensors' and not is_torchs
