"""What is wrong with a file that cannot be read, in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmclip.errors import CheckpointError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise one ``CheckpointError`` for whatever reading a file fails by."""
    try:
        yield
    except Exception as error:  # of damaged files, almost any
        raise CheckpointError(_explain(path, error)) from error


def _explain(path: Path, error: Exception) -> str:
    """One sentence of what its library, or a check of ours, raised."""
    reason, again = str(error), _fetch_again(path)
    if isinstance(error, CheckpointError):
        return f'{path} is refused: {reason}{again}'
    start = _first_bytes(path)
    if not start:
        return f'{path} is empty or missing.{again}'
    if start.lstrip().lower().startswith((b'<!doctype', b'<html', b'<?xml')):
        return (
            f'{path} is a web page, not weights: the download went wrong; '
            f'open it in a browser to see why.{again}'
        )
    if start.startswith(b'version https://git-lfs'):
        return (
            f'{path} is a pointer of git LFS, not the weights: run git lfs '
            'pull where it comes from.'
        )
    first = reason.strip().partition('\n')[0]
    return (
        f'{path} is not a readable checkpoint: damaged, incomplete or of '
        f'another format ({type(error).__name__}: {first}).{again}'
    )


def _fetch_again(path: Path) -> str:
    """What to delete, if another library downloaded a file; or nothing."""
    from huggingface_hub import constants

    for cache in (constants.HF_HUB_CACHE, '~/.cache/clip'):  # open_clip's
        folder = Path(cache).expanduser().absolute()
        if path.absolute().is_relative_to(folder):
            # The hub's names are links: without them it would link again.
            return f' Delete {path.resolve()} to have it downloaded again.'
    return ''


def _first_bytes(path: Path) -> bytes:
    """The beginning of a file, nothing of one that is missing."""
    if not path.is_file():
        return b''
    with open(path, 'rb') as file:
        return file.read(512)
