"""Paths of weights: which files to read, and which may be written."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from mmclip.checkpoint.files.atomic import TEMPORARY
from mmclip.checkpoint.files.explain import explained
from mmclip.errors import CheckpointError

SUFFIXES = ('.pt', '.pth', '.bin', '.safetensors')
NO_TAG = 'none'  # for a local file with the settings of no pretrained tag
# In the order of preference of open_clip and transformers.
WEIGHT_NAMES = (
    'open_clip_model.safetensors',
    'open_clip_pytorch_model.safetensors',
    'open_clip_pytorch_model.bin',
    'model.safetensors',
    'model.safetensors.index.json',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
)


def files_of(path: str | Path) -> list[Path]:
    """Return the files that a file or folder of weights consists of.

    Returns:
        list[Path]: A single file, or an index and then the files it names.

    Raises:
        CheckpointError: If an index is damaged.
        FileNotFoundError: If a folder has no weights.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        path = find_weights(path)
    if path.name.endswith('.index.json'):
        return [path, *_shards_of(path)]
    return [path]


def is_local(pretrained: str) -> bool:
    """Return whether a name is a file or folder of weights, not a tag.

    A folder that merely has the name of a tag does not count.
    """
    path = Path(pretrained).expanduser()
    if not path.is_dir():
        return path.is_file()
    return any(
        child.suffix in SUFFIXES or child.name.endswith('config.json')
        for child in path.iterdir()
    )


def is_file(text: str) -> bool:
    """Return whether a text is the path of a file, and not what is in one."""
    try:
        return Path(text).expanduser().is_file()
    except OSError:  # too long for a path
        return False


def find_weights(folder: Path) -> Path:
    """Find the weight file in a folder.

    Raises:
        FileNotFoundError: If there is none, or several with unusual names.
    """
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    others = [p for p in sorted(folder.glob('*')) if p.suffix in SUFFIXES]
    if len(others) == 1:
        return others[0]
    if not others:
        raise FileNotFoundError(
            f'The folder {folder} has no weights (a file that ends in '
            f'{", ".join(SUFFIXES)}).'
        )
    raise FileNotFoundError(
        f'The folder {folder} has {len(others)} weight files, none of which '
        f'is called {WEIGHT_NAMES[0]}, {WEIGHT_NAMES[3]} or '
        f'{WEIGHT_NAMES[5]}. Give the file itself.'
    )


def check_file(path: Path) -> None:
    """Refuse what is not a file; opening a pipe could block forever.

    Raises:
        FileNotFoundError: If it does not exist.
        CheckpointError: If it is a folder, a pipe or a device.
    """
    if path.is_file():
        return
    if path.exists():
        what = 'a folder' if path.is_dir() else 'not a regular file'
        raise CheckpointError(f'{path} is {what}. Give a file of weights.')
    raise FileNotFoundError(f'Checkpoint {path} does not exist.')


def check_out(path: Path, *inputs: str | Path, force: bool) -> None:
    """Refuse an output file before any work is done.

    Args:
        path (Path): The file.
        inputs (str | Path): What it is made of: files, folders and names.
            Each is kept, even with ``force``.
        force (bool): Whether it may exist.

    Raises:
        CheckpointError: If it exists, is an input or a folder, or has an
            unknown suffix.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f'{path} must end in one of {", ".join(SUFFIXES)}, which sets the '
            'format.'
        )
    check_free(path, *inputs, force=force)


def check_free(path: Path, *inputs: str | Path, force: bool) -> None:
    """Refuse an output file as :func:`check_out`, but with any suffix.

    Raises:
        CheckpointError: If it exists, is an input or a folder, or cannot be
            written.
    """
    if path.is_dir():
        raise CheckpointError(f'{path} is a folder. Give a file.')
    check_folder(path.parent)
    if not path.exists():
        return
    for given in map(str, inputs):
        files = files_of(given) if is_local(given) else []
        if any(path.samefile(file) for file in files):
            raise CheckpointError(
                f'{path} would overwrite an input, {given}. Choose another '
                'name.'
            )
    if not force:
        raise CheckpointError(f'{path} exists; pass --force to overwrite it.')


def check_folder(folder: Path) -> None:
    """Refuse an output folder before any work is done.

    It is not created here if it does not exist.

    Raises:
        CheckpointError: If it cannot be written to.
    """
    try:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        with tempfile.TemporaryFile(prefix=TEMPORARY, dir=there):
            pass
    except OSError as error:
        raise CheckpointError(
            f'{folder} cannot be written to ({error.strerror}). Choose '
            'another folder.'
        ) from error


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    hash_file(path, digest)
    return digest.hexdigest()


def hash_file(path: str | Path, digest: Any) -> None:
    """Update a hash of hashlib's with the bytes of a file."""
    with open(path, 'rb') as file:
        while chunk := file.read(2**20):
            digest.update(chunk)


def _shards_of(index: Path) -> list[Path]:
    """Return the files named by an index of safetensors or torch files."""
    with explained(index):
        content = json.loads(index.read_text('utf-8'))
        names = sorted(set(content['weight_map'].values()))
        # Names, not paths: shards are in the folder of their index.
        shards = [index.parent / Path(name).name for name in names]
    for name, shard in zip(names, shards, strict=True):
        if shard.name != name or not shard.is_file():
            raise CheckpointError(
                f'{index} is incomplete: {name[:99]!r}, which it names, is '
                'not in its folder.'
            )
    return shards
