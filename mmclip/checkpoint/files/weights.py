"""Reading checkpoint files safely and writing them atomically."""

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mmclip.checkpoint.files.archive import Archive, is_archive
from mmclip.checkpoint.files.atomic import TEMPORARY, atomic_file
from mmclip.checkpoint.files.explain import check_file, explain
from mmclip.checkpoint.files.run_state import forget_choices
from mmclip.checkpoint.files.safetensors_files import (
    SafetensorsFiles,
    is_safetensors,
    read_safetensors,
    shards_of,
    write_safetensors,
)
from mmclip.checkpoint.files.torch_files import read_archive, read_legacy
from mmclip.checkpoint.files.torchscript import (
    is_torchscript,
    read_torchscript,
)
from mmclip.checkpoint.grids import renamed, tell_grid, without_prefix
from mmclip.checkpoint.meta import check_clip, read_clip
from mmclip.checkpoint.state_dict import weights_of
from mmclip.errors import CheckpointError

SUFFIXES = ('.pt', '.pth', '.bin', '.safetensors')
# Bytes of a file's views beyond what it holds: expanded numbers do no harm.
MOST_INFLATION = 2**20
MOST_VIEWS = 64  # of a file's bytes: a layer may be in all of a model's places
# Of torch.compile, FSDP and activation checkpointing.
_WRAPPERS = re.compile(
    r'\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.'
)
NO_TAG = 'none'  # of a local file that follows no pretrained tag
# In the order in which open_clip and transformers prefer them.
WEIGHT_NAMES = (
    'open_clip_model.safetensors',
    'open_clip_pytorch_model.safetensors',
    'open_clip_pytorch_model.bin',
    'model.safetensors',
    'model.safetensors.index.json',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
)


def read_checkpoint(
    path: str | Path, map_location: Any = 'cpu', *, mmap: bool = False
) -> dict[str, Any]:
    """Read a checkpoint file without executing anything that it holds.

    Beyond tensors and plain containers only what mmengine's own checkpoints
    need is admitted; :mod:`mmclip.checkpoint.files.names` lists all of it.
    Reading
    takes time and memory in proportion to the file, or ends in an error. Of
    TorchScript archives the tensors alone are read, not the program.
    Configs that mmengine would execute are dropped, and paths of earlier
    checkpoints become names (:mod:`mmclip.checkpoint.files.run_state`).

    Args:
        path (str | Path): A ``.safetensors`` file or any torch file.
        map_location (Any): As in :func:`torch.load`.
        mmap (bool): Leave the tensors on disk until they are used, and do
            not compare check sums. Defaults to False.

    Returns:
        dict: What the file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged or holds Python objects.
    """
    return _read(Path(path).expanduser(), map_location, mmap)


def _read(
    path: Path, map_location: Any, mmap: bool, check_sums: bool = False
) -> dict[str, Any]:
    """Read a file; ``check_sums`` also of what is left on disk."""
    check_file(path)
    if is_safetensors(path):
        return tell_grid(read_safetensors(path, map_location), str(path))
    checkpoint: Any
    if is_torchscript(path):
        checkpoint = read_torchscript(path)
    else:
        try:
            if is_archive(path):
                with Archive(path) as archive:
                    if check_sums:
                        archive.check_sums()
                    checkpoint = read_archive(archive, map_location, mmap=mmap)
            else:
                checkpoint = read_legacy(path, map_location)
        except Exception as error:  # of damaged files, almost any
            raise CheckpointError(explain(path, error)) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{path} holds a {type(checkpoint).__name__}, not a dict of '
            'weights.'
        )
    _refuse_inflated(path, checkpoint)
    forget_choices(checkpoint)
    return tell_grid(checkpoint, str(path))


def read_state_dict(path: str | Path) -> Mapping[str, torch.Tensor]:
    """Read the tensors of a checkpoint file or folder, on the CPU.

    Takes plain state dicts, training checkpoints (the wrapper ``state_dict``
    and the prefix ``module.`` of data-parallel training are removed) and
    folders of Hugging Face. Tensors stay on disk until they are used.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file holds no state dict.
    """
    path, *shards = files_of(path)
    if shards and not all(map(is_safetensors, shards)):
        return {k: v for s in shards for k, v in read_state_dict(s).items()}
    if shards or is_safetensors(path):
        return SafetensorsFiles(shards or [path])
    checkpoint = _read(path, 'cpu', mmap=True, check_sums=True)
    return without_wrapper(weights_of(checkpoint, path))


def files_of(path: str | Path) -> list[Path]:
    """The files that a file or folder of weights consists of.

    Returns:
        list[Path]: The one file; or an index, and then the files it names.

    Raises:
        CheckpointError: If an index is damaged.
        FileNotFoundError: If a folder has no weights.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        path = find_weights(path)
    if path.name.endswith('.index.json'):
        return [path, *shards_of(path)]
    return [path]


def without_wrapper(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Keys without what wrappers of torch put into them.

    Such as ``module.`` of data-parallel training before all, which mmengine's
    runners take away, too, and ``_orig_mod.`` of ``torch.compile`` anywhere.
    """
    plain = renamed(state_dict, lambda key: _WRAPPERS.sub('', key))
    if len(plain) < len(state_dict):
        plain = renamed(state_dict, str)  # what would be one is not the same
    wrapped = all(key.startswith('module.') for key in plain)
    return without_prefix(plain, 'module.' if wrapped else '')


def read_metadata(path: str | Path) -> dict[str, Any] | None:
    """``meta['clip']`` of a checkpoint of ours, None if a file has none.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is not a readable checkpoint.
    """
    path = Path(path).expanduser()
    if is_safetensors(path):
        clip = SafetensorsFiles([path]).clip
        return None if clip is None else check_clip(clip, str(path))
    return read_clip(read_checkpoint(path, mmap=True), str(path))


def is_local(pretrained: str) -> bool:
    """Whether a name is a file, or a folder of weights, and no tag.

    A folder that happens to be called like a tag does not count.
    """
    path = Path(pretrained).expanduser()
    if not path.is_dir():
        return path.is_file()
    return any(
        child.suffix in SUFFIXES or child.name.endswith('config.json')
        for child in path.iterdir()
    )


def find_weights(folder: Path) -> Path:
    """The file of weights in a folder, as open_clip and transformers name it.

    Raises:
        FileNotFoundError: If there is none, or several of other names.
    """
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    others = [p for p in sorted(folder.glob('*')) if p.suffix in SUFFIXES]
    if len(others) == 1:
        return others[0]
    raise FileNotFoundError(
        f'{folder} holds {len(others)} files of weights, and none with a '
        f'usual name ({", ".join(WEIGHT_NAMES)}); name the file itself.'
    )


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
            write_safetensors(checkpoint, temporary)
        else:
            with open(temporary, 'wb') as file:
                torch.save(checkpoint, file)


def check_out(path: Path, *, force: bool) -> None:
    """Refuse a file to write before the work for it is done.

    Args:
        path (Path): The file.
        force (bool): Whether it may exist.

    Raises:
        CheckpointError: If it exists, is a folder, or is named as no format.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f'{path} must end in one of {", ".join(SUFFIXES)}: the suffix '
            'says which format to write.'
        )
    check_free(path, force=force)


def check_free(path: Path, *, force: bool) -> None:
    """Refuse a file to write of any format, as :func:`check_out` does.

    Raises:
        CheckpointError: If it is a folder, or exists and may not, or cannot be
            written.
    """
    if path.is_dir():
        raise CheckpointError(f'{path} is a folder: name a file.')
    check_folder(path.parent)
    if path.exists() and not force:
        raise CheckpointError(f'{path} exists; pass --force to overwrite it.')


def check_folder(folder: Path) -> None:
    """Refuse a folder to write into before the work for it is done.

    What of it does not exist is made when it is needed, and not here.

    Raises:
        CheckpointError: If nothing can be written there.
    """
    try:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        with tempfile.TemporaryFile(prefix=TEMPORARY, dir=there):
            pass
    except OSError as error:
        raise CheckpointError(
            f'{folder} cannot be written to ({error.strerror}): name another '
            'folder.'
        ) from error


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


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
