"""Error messages for files that cannot be read."""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmclip.errors import CheckpointError

LAST_CHECKPOINT = 'last_checkpoint'  # which mmengine writes


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn any error of reading a file into a ``CheckpointError``."""
    try:
        yield
    except Exception as error:  # of damaged files, almost any
        raise CheckpointError(_explain(path, error)) from error


def _explain(path: Path, error: Exception) -> str:
    """Return one sentence for an error of a library or of our own checks."""
    reason, again = str(error), _fetch_again(path)
    start = _first_bytes(path)
    if start.lstrip().lower().startswith((b'<!doctype', b'<html', b'<?xml')):
        return (
            f'{path} is a web page, not weights: the download went wrong. '
            f'Open it in a browser to see why.{again}'
        )
    if start.startswith(b'version https://git-lfs'):
        return (
            f'{path} is a Git LFS pointer, not the weights. Run git lfs pull '
            'in its repository.'
        )
    if not path.name.endswith('.index.json') and (text := _text(start)):
        if path.name == LAST_CHECKPOINT:
            return f'{path} only names a file of weights. Give it: {text}.'
        return f'{path} is a text file (a config?), not weights.{again}'
    if isinstance(error, CheckpointError):
        return f'{path} is refused: {reason}{again}'
    if not start:
        return f'{path} is {"empty" if path.exists() else "missing"}.{again}'
    first = reason.strip().partition('\n')[0]
    return (
        f'{path} is not a readable checkpoint: damaged, incomplete or in '
        f'another format ({type(error).__name__}: {first}).{again}'
    )


def _fetch_again(path: Path) -> str:
    """Say what to delete if another library downloaded the file, or ''."""
    from huggingface_hub import constants

    for cache in (constants.HF_HUB_CACHE, '~/.cache/clip'):  # open_clip's
        folder = Path(cache).expanduser().absolute()
        if path.absolute().is_relative_to(folder):
            # Names in the hub's cache are links; deleting one is not enough.
            return f' Delete {path.resolve()} to download it again.'
    return ''


def _text(start: bytes) -> str:
    """Return the beginning of a text file, '' for other files."""
    try:  # the last character may be cut
        text = codecs.getincrementaldecoder('utf-8')().decode(start).strip()
    except UnicodeDecodeError:
        return ''
    return text if all(c.isprintable() or c.isspace() for c in text) else ''


def _first_bytes(path: Path) -> bytes:
    """Return the beginning of a file, nothing if it is missing."""
    if not path.is_file():
        return b''
    with open(path, 'rb') as file:
        return file.read(512)
