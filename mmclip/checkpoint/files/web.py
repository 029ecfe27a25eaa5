"""Downloads from the web, kept only if they are whole and can be read."""

import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from mmengine.logging import print_log
from tqdm import tqdm

from mmclip.checkpoint.files.atomic import TEMPORARY
from mmclip.errors import CheckpointError
from mmclip.version import __version__

Contents = TypeVar('Contents')
# Seconds without data, or with too little of it, after which we give up.
TIMEOUT = 60.0
SLOWEST = 1000  # bytes per second
# The hash in a name, as torch.hub and mmengine's `publish_model` write it:
# NAME-<8 or more digits of the SHA-256>.SUFFIX
_HASH = re.compile(r'-([0-9a-f]{8,64})\.\w+')


def read_from_web(
    url: str, path: Path, read: Callable[[Path], Contents]
) -> Contents:
    """Read a file from the web, after downloading it if necessary.

    It is kept only if it is whole, matches the hash in its name, and can be
    read. A kept file that is damaged is downloaded again. Only one of several
    processes downloads.

    Args:
        url (str): An address with ``http://`` or ``https://``.
        path (Path): Where to keep the file.
        read (Callable): Reads the file at a path; raises ``CheckpointError``
            if it cannot.

    Raises:
        CheckpointError: If it cannot be downloaded, kept or read; nothing is
            left behind.
    """
    if path.exists():
        try:
            return read(path)
        except CheckpointError as error:
            print_log(
                f'{error} Downloading it again from {url}.',
                logger='current',
                level=logging.WARNING,
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{path}.lock'):
            # Another process may have downloaded it meanwhile.
            found = _read_if_whole(path, read)
            return _download(url, path, read) if found is None else found
    except OSError as error:
        raise CheckpointError(
            f'{url} cannot be saved as {path} ({error.strerror or error}). '
            'Set TORCH_HOME to a writable folder with enough space.'
        ) from error


def _read_if_whole(
    path: Path, read: Callable[[Path], Contents]
) -> Contents | None:
    if not path.exists():
        return None
    try:
        return read(path)
    except CheckpointError:
        return None


def _download(
    url: str, path: Path, read: Callable[[Path], Contents]
) -> Contents:
    # Keeps the suffix, which readers look at; overwrites what a killed process
    # left behind.
    part = path.with_name(TEMPORARY + path.name)
    try:
        _check_hash(path.name, _fetch(url, part))
        contents = read(part)
        os.replace(part, path)
    except (CheckpointError, _Failure) as error:
        reason = str(error).replace(str(part), 'the file')
        raise CheckpointError(
            f'{url} could not be downloaded: {reason} Nothing was kept. Try '
            'again, or fetch it by other means and give the file.'
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return contents


class _Failure(Exception):
    """An error of a download, with a sentence as its message."""


def _fetch(url: str, path: Path) -> str:
    """Write what a server sends to a file, and return its SHA-256."""
    agent = {'User-Agent': f'mmclip/{__version__}'}
    with _explained():
        request = urllib.request.Request(url, headers=agent)
        response = _opener().open(request, timeout=TIMEOUT)
    digest, received = hashlib.sha256(), 0
    length = response.length  # None if the server does not say
    with (
        response,
        open(path, 'wb') as file,
        tqdm(total=length, unit='B', unit_scale=True, disable=None) as bar,
    ):
        for chunk in _chunks(response):
            file.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            bar.update(len(chunk))
    if length is not None and received != length:
        raise _Failure(
            f'the connection ended after {received:,} of {length:,} bytes.'
        )
    return digest.hexdigest()


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    since, received = time.monotonic(), 0
    with _explained():
        while chunk := response.read1(2**20):
            yield chunk
            received += len(chunk)
            if (now := time.monotonic()) - since > TIMEOUT:
                if received < SLOWEST * TIMEOUT:
                    raise TimeoutError
                since, received = now, 0


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors of the server or network into a :class:`_Failure`."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _Failure(
            f'the server answered {error.code} {error.reason}.'
        ) from error
    except TimeoutError as error:
        raise _Failure(
            f'the server sent nothing, or almost nothing, for {TIMEOUT:g} '
            'seconds.'
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Failure(
            f'{getattr(error, "reason", None) or error or type(error)}.'
        ) from error


def _opener() -> urllib.request.OpenerDirector:
    """Return urllib's opener without ``ftp:``, ``file:`` and ``data:``.

    Only web addresses are allowed, also after redirects.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _check_hash(name: str, sha256: str) -> None:
    said = _HASH.search(name)
    if not said or _is_date(said[1]) or sha256.startswith(said[1]):
        return
    if said[1].isdecimal():  # one hash in fifty; more likely a step number
        print_log(
            f'{said[1]} in the name {name} is not the start of its SHA-256 '
            f'({sha256}).',
            logger='current',
            level=logging.WARNING,
        )
        return
    raise _Failure(
        f'its name says that its SHA-256 begins with {said[1]}, but it is '
        f'{sha256}.'
    )


def _is_date(digits: str) -> bool:
    """Return whether digits are a date such as 20221226, not a hash."""
    try:
        return 2000 <= datetime.strptime(digits, '%Y%m%d').year < 2100
    except ValueError:
        return False
