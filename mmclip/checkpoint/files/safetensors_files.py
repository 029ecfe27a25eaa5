"""Safetensors files, one or several, with ``meta['clip']`` in the header."""

import errno
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mmclip.checkpoint.files.explain import check_file, explain, first_bytes
from mmclip.checkpoint.files.unpickler import refuse_knots
from mmclip.errors import CheckpointError


class SafetensorsFiles(Mapping[str, torch.Tensor]):
    """The tensors of safetensors files, each read when it is asked for.

    Args:
        paths (Sequence[Path]): The files.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If a file is damaged.
    """

    def __init__(self, paths: Sequence[Path]):
        self._files: dict[str, Any] = {}
        self.clip: dict[str, Any] | None = None  # our ``meta['clip']``
        for path in paths:
            check_file(path)
            try:
                file = safe_open(path, framework='pt', device='cpu')
            except (SafetensorError, OSError) as error:
                raise CheckpointError(explain(path, error)) from error
            header = (file.metadata() or {}).get('clip')
            if header is not None:
                self.clip = _parse_header(path, header)
            self._files |= dict.fromkeys(file.keys(), file)

    def __getitem__(self, key: str) -> torch.Tensor:
        """Read one tensor, and copy it if it is not aligned in its file."""
        tensor = self._files[key].get_tensor(key)
        is_aligned = tensor.data_ptr() % tensor.itemsize == 0
        return tensor if is_aligned else tensor.clone()

    def __iter__(self) -> Iterator[str]:
        """The names of the tensors."""
        return iter(self._files)

    def __len__(self) -> int:
        """The number of tensors."""
        return len(self._files)


def read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    """What :func:`write_safetensors` was given; of other files the tensors."""
    device = map_location if isinstance(map_location, str) else 'cpu'
    files = SafetensorsFiles([path])
    tensors = {key: tensor.to(device) for key, tensor in files.items()}
    if files.clip is None:
        return tensors
    return dict(meta=dict(clip=files.clip), state_dict=tensors)


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


def _parse_header(path: Path, header: str) -> dict[str, Any]:
    try:
        clip = json.loads(header)
        refuse_knots(clip, len(header))
    except (CheckpointError, ValueError, RecursionError) as error:
        raise CheckpointError(explain(path, error)) from error
    if not isinstance(clip, dict):
        raise CheckpointError(f'{path}: its description is not a dict.')
    return clip


def is_safetensors(path: Path) -> bool:
    """Whether a file is one of safetensors, by what it begins with.

    One that begins as nothing that torch writes is what its suffix says.
    """
    start = first_bytes(path)[:9]
    if len(start) == 9 and start.endswith(b'{'):
        return int.from_bytes(start[:8], 'little') < path.stat().st_size
    is_torchs = start.startswith((b'PK\x03\x04', b'\x80'))
    return path.suffix == '.safetensors' and not is_torchs


def shards_of(index: Path) -> list[Path]:
    """The files that an index of safetensors or torch files names.

    Raises:
        CheckpointError: If it is damaged, or a file is not there.
    """
    try:
        names = sorted(
            set(json.loads(index.read_text('utf-8'))['weight_map'].values())
        )
        # Names, not paths: a shard lies beside its index.
        shards = [index.parent / Path(name).name for name in names]
    except (
        AttributeError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise CheckpointError(explain(index, error)) from error
    for name, shard in zip(names, shards, strict=True):
        if shard.name != name or not shard.is_file():
            raise CheckpointError(
                f'{index} names the file {name[:99]!r}, which is not beside '
                'it; it is incomplete.'
            )
    return shards
