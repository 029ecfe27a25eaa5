"""The writer of weights: files appear whole or not at all."""

import errno
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.checkpoint.files.paths import hash_file


def write_checkpoint(
    checkpoint: dict[str, Any], path: str | Path, digest: Any = None
) -> None:
    """Write a checkpoint; the file appears whole or not at all.

    A ``.safetensors`` file gets the tensors of ``state_dict`` and, in its
    header, ``meta['clip']``; any other is written by :func:`torch.save`. The
    same contents give the same bytes, whatever the file's name.

    Args:
        checkpoint (dict): What to write.
        path (str | Path): The file.
        digest (Any): A hash of hashlib's, updated with the file's bytes while
            they are written. Defaults to None.

    Raises:
        OSError: If the file cannot be written; no partial file is left.
    """
    path = Path(path)
    with atomic_file(path) as temporary:
        if path.suffix == '.safetensors':
            _write_safetensors(checkpoint, temporary)
            if digest is not None:
                hash_file(temporary, digest)
        else:
            with open(temporary, 'wb') as file:
                out: Any = _Hashed(file, digest) if digest else file
                try:
                    torch.save(checkpoint, out)
                except RuntimeError as error:
                    # torch's writer fails again as it closes; raise the cause.
                    if isinstance(error.__context__, OSError):
                        raise error.__context__ from None
                    raise


class _Hashed:
    """A file whose bytes are hashed by a thread while they are written."""

    def __init__(self, file: BinaryIO, digest: Any):
        self._file, self._digest = file, digest
        self._thread = ThreadPoolExecutor(max_workers=1)

    def write(self, data: Any) -> int:
        """Write; torch uses the memory again, so this waits for the hash."""
        hashing = self._thread.submit(self._digest.update, data)
        try:
            return self._file.write(data)
        finally:
            hashing.result()

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


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
