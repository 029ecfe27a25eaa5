"""The files of weights: which there are, and which may be written."""

import hashlib
import json
import tempfile
from pathlib import Path

from mmclip.checkpoint.files.atomic import TEMPORARY
from mmclip.checkpoint.files.explain import explained
from mmclip.errors import CheckpointError

SUFFIXES = ('.pt', '.pth', '.bin', '.safetensors')
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
        return [path, *_shards_of(path)]
    return [path]


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


def check_file(path: Path) -> None:
    """Refuse what is not a file; opening a pipe could take for ever.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        CheckpointError: If it is a folder, a pipe or a device.
    """
    if path.is_file():
        return
    if path.exists():
        raise CheckpointError(f'{path} is not a regular file.')
    raise FileNotFoundError(f'Checkpoint {path} does not exist.')


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


def _shards_of(index: Path) -> list[Path]:
    """The files that an index of safetensors or torch files names."""
    with explained(index):
        content = json.loads(index.read_text('utf-8'))
        names = sorted(set(content['weight_map'].values()))
        # Names, not paths: a shard lies beside its index.
        shards = [index.parent / Path(name).name for name in names]
    for name, shard in zip(names, shards, strict=True):
        if shard.name != name or not shard.is_file():
            raise CheckpointError(
                f'{index} names the file {name[:99]!r}, which is not beside '
                'it; it is incomplete.'
            )
    return shards
