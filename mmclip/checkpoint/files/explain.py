"""What is wrong with a file that cannot be read, in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmclip.errors import CheckpointError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise ``CheckpointError`` for whatever reading a file fails by.

    Args:
        path (Path): The file.
    """
    try:
        yield
    except Exception as error:  # of damaged files, almost any
        raise CheckpointError(explain(path, error)) from error


def explain(path: Path, error: Exception) -> str:
    """Put into one sentence what is wrong with a file.

    Args:
        path (Path): The file.
        error (Exception): What its library, or a check of ours, raised.
    """
    reason = str(error)
    if isinstance(error, CheckpointError):
        return f'{path} is refused: {reason}{fetch_again(path)}'
    start = first_bytes(path)
    if not start:
        return f'{path} is empty or missing.{fetch_again(path)}'
    if start.lstrip().lower().startswith((b'<!doctype', b'<html', b'<?xml')):
        return (
            f'{path} is a web page, not weights: the download went wrong; '
            f'open it in a browser to see why.{fetch_again(path)}'
        )
    if start.startswith(b'version https://git-lfs'):
        return (
            f'{path} is a pointer of git LFS, not the weights: run git lfs '
            'pull where it comes from.'
        )
    first = reason.strip().partition('\n')[0]
    return (
        f'{path} is not a readable checkpoint: damaged, incomplete or of '
        f'another format ({type(error).__name__}: {first}).{fetch_again(path)}'
    )


def fetch_again(path: Path) -> str:
    """What to delete, if another library downloaded a file; or nothing."""
    from huggingface_hub import constants

    for cache in (constants.HF_HUB_CACHE, '~/.cache/clip'):  # open_clip's
        folder = Path(cache).expanduser().absolute()
        if path.absolute().is_relative_to(folder):
            # The hub's names are links: without them it would link again.
            return f' Delete {path.resolve()} to have it downloaded again.'
    return ''


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


def first_bytes(path: Path) -> bytes:
    """The beginning of a file, nothing of one that is missing."""
    if not path.is_file():
        return b''
    with open(path, 'rb') as file:
        return file.read(512)
