"""The one reader of weights: what is opened once is checked once, and lazy.

Everything else that reads weights is a view of :class:`Weights`.
"""

import os
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmclip.checkpoint.files.explain import explained
from mmclip.checkpoint.files.paths import check_file, files_of
from mmclip.checkpoint.files.run_state import forget_choices
from mmclip.checkpoint.files.safetensors_files import (
    SafetensorsFile,
    aligned,
    is_safetensors,
)
from mmclip.checkpoint.files.torch_files import (
    LegacyFile,
    ZippedFile,
    is_zipped,
)
from mmclip.checkpoint.grids import tell_grid
from mmclip.checkpoint.meta import Clip, read_clip
from mmclip.checkpoint.state_dict import weights_of, without_wrapper
from mmclip.errors import CheckpointError

# Bytes of a file's views beyond what it holds: expanded numbers do no harm.
MOST_INFLATION = 2**20
MOST_VIEWS = 64  # of a file's bytes: a layer may be in all of a model's places


def open_weights(path: str | Path) -> 'Weights':
    """Open a file or folder of weights without executing what it holds.

    Beyond tensors and plain containers only what mmengine's own checkpoints
    need is admitted; :mod:`.allow_list` lists all of it. Opening takes time
    and memory in proportion to the file, or ends in an error. Of TorchScript
    archives the tensors alone are read, not the program. Configs that mmengine
    would execute are dropped, and paths of earlier checkpoints become names
    (:mod:`.run_state`).

    Args:
        path (str | Path): A ``.safetensors`` file, any torch file, an index of
            several, or a folder of Hugging Face.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If a file is damaged or holds Python objects.
    """
    weights = Weights(path)
    _ = weights.content  # or it would be refused at the first use
    return weights


def read_checkpoint(
    path: str | Path, map_location: Any = 'cpu'
) -> dict[str, Any]:
    """Read all that a checkpoint file holds into memory.

    Args:
        path (str | Path): As of :func:`open_weights`, but no folder.
        map_location (Any): As in :func:`torch.load`.

    Returns:
        dict: What the file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged or holds Python objects.
    """
    check_file(Path(path).expanduser())
    return Weights(path).read(map_location)


def read_state_dict(path: str | Path) -> 'Weights':
    """Open a file or folder that must hold a state dict.

    Args and errors as of :func:`open_weights`.

    Raises:
        CheckpointError: If there is none, or a check sum is another.
    """
    weights = Weights(path)
    len(weights)
    return weights


class Weights(Mapping[str, Tensor]):
    """The weights in a file or folder, and what else is there.

    A mapping of the tensors of the state dict, on the CPU, by names without
    what wrappers of torch put into them. Tensors stay on disk until they are
    used; before the first, the check sums of the file are compared.

    Args:
        path (str | Path): The file or folder.

    Attributes:
        path (Path): The file, or the index of several.
        kind (str): ``'torch'``, ``'torch before 1.6'``, ``'TorchScript'`` or
            ``'safetensors'``.
    """

    def __init__(self, path: str | Path):
        self.path, *shards = files_of(path)
        self._files = {file: _open(file) for file in shards or [self.path]}
        self.kind = next(iter(self._files.values())).kind

    @cached_property
    def content(self) -> dict[str, Any]:
        """All that it holds; check sums of its tensors are not compared."""
        return self._load('cpu', mapped=True)

    @property
    def meta(self) -> dict[str, Any]:
        """What it says besides weights, empty if that is nothing."""
        meta = self.content.get('meta')
        return meta if isinstance(meta, dict) else {}

    @property
    def clip(self) -> Clip | None:
        """``meta['clip']``, None if it has none."""
        return read_clip(self.content, str(self.path))

    def read(self, map_location: Any = 'cpu') -> dict[str, Any]:
        """All that it holds, in memory.

        Args:
            map_location (Any): As in :func:`torch.load`.

        Raises:
            CheckpointError: If a check sum is another.
        """
        return self._load(map_location, mapped=False)

    def check_sums(self) -> None:
        """Compare the check sums of all tensors, once, if there are any.

        Raises:
            CheckpointError: If one is another.
        """
        for path, file in self._files.items():
            if isinstance(file, ZippedFile):
                with explained(path):
                    file.check_sums()

    def __getitem__(self, key: str) -> Tensor:
        """One tensor, copied if it is not aligned in its file."""
        return aligned(self._tensors[key])

    def __iter__(self) -> Iterator[str]:
        """The names of the tensors."""
        return iter(self._tensors)

    def __len__(self) -> int:
        """The number of tensors."""
        return len(self._tensors)

    @property
    def _metadata(self) -> Any:  # where torch looks for it
        return self._tensors._metadata  # type: ignore[attr-defined]

    @cached_property
    def _tensors(self) -> 'OrderedDict[str, Any]':
        tensors = without_wrapper(weights_of(self.content, self.path))
        self.check_sums()
        return tensors

    def _load(self, map_location: Any, *, mapped: bool) -> dict[str, Any]:
        contents = {}
        for path, file in self._files.items():
            with explained(path):
                content = file.load(map_location, mapped=mapped)
            contents[path] = _checked(content, path)
        if self.path in contents:
            return contents[self.path]
        shards = [weights_of(contents[path], path) for path in contents]
        return dict(
            state_dict={k: v for shard in shards for k, v in shard.items()}
        )


class OpenedPath(str):
    """The path of weights that are open: who loads it opens nothing.

    Args:
        weights (Weights): Of the path; for the first who loads it.
    """

    weights: Weights | None

    def __new__(cls, weights: Weights) -> 'OpenedPath':
        """Make the text."""
        path = super().__new__(cls, weights.path)
        path.weights = weights
        return path


def _open(path: Path) -> ZippedFile | LegacyFile | SafetensorsFile:
    """Open a file as what its content says that it is."""
    check_file(path)
    file = open(path, 'rb')  # noqa: SIM115 - for as long as it is in use
    try:
        with explained(path):
            start, size = file.read(512), os.fstat(file.fileno()).st_size
            opened: ZippedFile | LegacyFile | SafetensorsFile
            if is_safetensors(start, size, path.suffix):
                opened = SafetensorsFile(path)
            elif is_zipped(start, file):
                opened = ZippedFile(file)
            else:
                opened = LegacyFile(file, size)
    except CheckpointError:
        file.close()
        raise
    weakref.finalize(opened, file.close)
    return opened


def _checked(content: Any, path: Path) -> dict[str, Any]:
    """What is taken of a file's content."""
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{path} holds a {type(content).__name__}, not a dict of weights.'
        )
    _refuse_inflated(path, content)
    forget_choices(content)
    return tell_grid(content, str(path))


def _refuse_inflated(path: Path, checkpoint: dict[str, Any]) -> None:
    """A view can claim any size; its first copy would take the memory."""
    inflation, left = 0, MOST_INFLATION + MOST_VIEWS * path.stat().st_size
    for parents, key, tensor in _tensors(checkpoint):
        if tensor.layout != torch.strided or tensor.is_meta:
            name = _name(*parents, key)
            raise CheckpointError(f'{path} is refused: {name} is not dense.')
        claimed, held = tensor.nbytes, tensor.untyped_storage().nbytes()
        inflation += max(0, claimed - held)
        left -= claimed
        if inflation > MOST_INFLATION:
            raise CheckpointError(
                f'{path} is refused: {_name(*parents, key)} claims '
                f'{claimed:,} bytes, and there are {held:,}.'
            )
        if left < 0:
            raise CheckpointError(
                f'{path} is refused: its tensors share their bytes, and claim '
                f'more than {MOST_VIEWS} times the file together.'
            )


def _tensors(
    checkpoint: Any,
) -> Iterator[tuple[tuple[Any, ...], Any, torch.Tensor]]:
    """All tensors with their keys, each container looked into once."""
    left: list[tuple[tuple[Any, ...], Any]] = [((), checkpoint)]
    seen = {id(checkpoint)}
    while left:
        parents, holder = left.pop()
        is_dict = isinstance(holder, dict)
        for key, value in holder.items() if is_dict else enumerate(holder):
            if isinstance(value, torch.Tensor):
                yield parents, key, value
                continue
            is_holder = isinstance(value, dict | list | tuple) and value
            if is_holder and id(value) not in seen:
                seen.add(id(value))
                left.append(((*parents, key), value))


def _name(*keys: Any) -> str:
    return '.'.join(str(key)[:99] for key in keys)
