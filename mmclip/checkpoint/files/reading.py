"""The reader of weights: opens a file once, checks it once, and is lazy.

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
from mmclip.checkpoint.files.pickles.torch_files import (
    LegacyFile,
    ZippedFile,
    is_zipped,
)
from mmclip.checkpoint.files.run_state import forget_choices
from mmclip.checkpoint.files.safetensors_files import (
    SafetensorsFile,
    aligned,
    is_safetensors,
)
from mmclip.checkpoint.grids import tell_grid
from mmclip.checkpoint.meta import Clip, read_clip
from mmclip.checkpoint.state_dict import weights_of, without_wrapper
from mmclip.errors import CheckpointError

# Bytes that tensors may claim beyond their storages; expanded numbers do.
MOST_INFLATION = 2**20
MOST_VIEWS = 64  # times that a file's bytes may be used, by shared layers


def open_weights(path: str | Path) -> 'Weights':
    """Open a file or folder of weights without executing anything in it.

    Besides tensors and plain containers, only what mmengine's own checkpoints
    need is allowed; :mod:`.pickles.allow_list` lists it. Opening takes time
    and memory in proportion to the file, or fails. From TorchScript archives
    only the tensors are read, not the program. Configs that mmengine would
    execute are dropped, and paths of earlier checkpoints become names
    (:mod:`.run_state`).

    Args:
        path (str | Path): A ``.safetensors`` file, any torch file, an index of
            several, or a folder from Hugging Face.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If a file is damaged or contains Python objects.
    """
    weights = Weights(path)
    _ = weights.content  # refuses a bad file now, not at its first use
    return weights


def read_checkpoint(
    path: str | Path, map_location: Any = 'cpu'
) -> dict[str, Any]:
    """Read a whole checkpoint file into memory.

    Args:
        path (str | Path): A path as for :func:`open_weights`, but not a
            folder.
        map_location (Any): As in :func:`torch.load`.

    Returns:
        dict: The contents of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged or contains Python objects.
    """
    check_file(Path(path).expanduser())
    return Weights(path).read(map_location)


def read_state_dict(path: str | Path) -> 'Weights':
    """Open a file or folder that must contain a state dict.

    Args and errors are those of :func:`open_weights`.

    Raises:
        CheckpointError: Also if there is no state dict, or a checksum differs.
    """
    weights = Weights(path)
    len(weights)
    return weights


class Weights(Mapping[str, Tensor]):
    """A mapping of the weights in a file or folder, with its other contents.

    It maps names, without what torch's wrappers add to them, to the tensors
    of the state dict, on the CPU. Tensors stay on disk until they are used;
    checksums are compared before the first is. A file that is deleted or
    replaced meanwhile stays readable; one that is written to is refused.

    Args:
        path (str | Path): The file or folder.

    Attributes:
        path (Path): The file, or the index of several files.
        kind (str): ``'torch'``, ``'torch before 1.6'``, ``'TorchScript'`` or
            ``'safetensors'``.
    """

    def __init__(self, path: str | Path):
        self.path, *shards = files_of(path)
        self._files = {file: _open(file) for file in shards or [self.path]}
        self.kind = next(iter(self._files.values()))[0].kind

    @cached_property
    def content(self) -> dict[str, Any]:
        """Return all contents, without comparing checksums of tensors."""
        return self._load('cpu', mapped=True)

    @property
    def meta(self) -> dict[str, Any]:
        """Return the metadata, empty if there is none."""
        meta = self.content.get('meta')
        return meta if isinstance(meta, dict) else {}

    @property
    def clip(self) -> Clip | None:
        """Return ``meta['clip']``, None if there is none."""
        return read_clip(self.content, str(self.path))

    def read(self, map_location: Any = 'cpu') -> dict[str, Any]:
        """Read all contents into memory.

        Args:
            map_location (Any): As in :func:`torch.load`.

        Raises:
            CheckpointError: If a checksum differs.
        """
        return self._load(map_location, mapped=False)

    def check_sums(self) -> None:
        """Compare the checksums of all tensors once, if there are any.

        Raises:
            CheckpointError: If one differs.
        """
        for path, (file, opened) in self._files.items():
            _refuse_changed(path, opened)
            if isinstance(file, ZippedFile):
                with explained(path):
                    file.check_sums()

    def __getitem__(self, key: str) -> Tensor:
        """Return a tensor, copied if it is not aligned in its file."""
        tensor = self._tensors[key]
        for path, (_, opened) in self._files.items():
            _refuse_changed(path, opened)
        return aligned(tensor)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the tensors."""
        return iter(self._tensors)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._tensors)

    @property
    def _metadata(self) -> Any:  # the name that torch looks for
        return self._tensors._metadata  # type: ignore[attr-defined]

    @cached_property
    def _tensors(self) -> 'OrderedDict[str, Any]':
        tensors = without_wrapper(weights_of(self.content, self.path))
        self.check_sums()
        return tensors

    def _load(self, map_location: Any, *, mapped: bool) -> dict[str, Any]:
        contents = {}
        for path, (file, opened) in self._files.items():
            _refuse_changed(path, opened)
            with explained(path):
                content = file.load(map_location, mapped=mapped)
            _refuse_changed(path, opened)
            contents[path] = _checked(content, path)
        if self.path in contents:
            return contents[self.path]
        shards = [weights_of(contents[path], path) for path in contents]
        return dict(
            state_dict={k: v for shard in shards for k, v in shard.items()}
        )


class OpenedPath(str):
    """The path of open weights, which are used instead of opening it again.

    Args:
        weights (Weights): The open weights, for the first load of the path.
    """

    weights: Weights | None

    def __new__(cls, weights: Weights) -> 'OpenedPath':
        """Create the string, and keep the weights with it."""
        path = super().__new__(cls, weights.path)
        path.weights = weights
        return path


def _open(
    path: Path,
) -> tuple[ZippedFile | LegacyFile | SafetensorsFile, os.stat_result]:
    """Open a file in the format that its content has."""
    check_file(path)
    file = open(path, 'rb')  # noqa: SIM115 - stays open while in use
    stat = os.fstat(file.fileno())
    try:
        with explained(path):
            start, size = file.read(512), stat.st_size
            opened: ZippedFile | LegacyFile | SafetensorsFile
            if is_safetensors(start, size, path.suffix):
                opened = SafetensorsFile(file)
                file.close()
            elif is_zipped(start, file):
                opened = ZippedFile(file)
            else:
                opened = LegacyFile(file, size)
    except CheckpointError:
        file.close()
        raise
    weakref.finalize(opened, file.close)
    return opened, stat


def _refuse_changed(path: Path, opened: os.stat_result) -> None:
    """Refuse a file that was written to; mapped tensors change with it."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return  # what was opened exists without a name
    times = [(s.st_size, s.st_mtime_ns) for s in (opened, now)]
    if os.path.samestat(now, opened) and times[0] != times[1]:
        raise CheckpointError(
            f'{path} was written to after it was opened. Start again when it '
            'no longer changes.'
        )


def _checked(content: Any, path: Path) -> dict[str, Any]:
    """Check a file's content, and drop what is not taken from it."""
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{path} contains a {type(content).__name__}, not a dict of '
            'weights.'
        )
    _refuse_inflated(path, content)
    forget_choices(content)
    return tell_grid(content, str(path))


def _refuse_inflated(path: Path, checkpoint: dict[str, Any]) -> None:
    """Refuse views that claim more bytes than there are; copies take them."""
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
                f'{claimed:,} bytes, but there are only {held:,}.'
            )
        if left < 0:
            raise CheckpointError(
                f'{path} is refused: its tensors share their bytes, and '
                f'together claim more than {MOST_VIEWS} times its size.'
            )


def _tensors(
    checkpoint: Any,
) -> Iterator[tuple[tuple[Any, ...], Any, torch.Tensor]]:
    """Yield all tensors with their keys, visiting each container once."""
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
