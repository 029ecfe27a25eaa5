"""A search for files that two sets share, by identity or content."""

import hashlib
import os
from collections.abc import Sequence
from itertools import chain
from typing import Any

from mmengine.logging import print_log

HEAD = 4096  # bytes in which most files of the same size differ
MAX_BYTES = 4 * 2**30  # to read of the others: a minute on a slow disk


def find_shared(first: Sequence[str], second: Sequence[str]) -> dict[str, str]:
    """Find local files of the second set that are also in the first.

    Files are compared by inode, so that links count, then by size, then by
    their first bytes, and only then by all of their content.

    Returns:
        dict[str, str]: Each shared path in the second set, and a path in the
        first with the same content.
    """
    ours, theirs = _stat(first), _stat(second)
    inodes = {(s.st_dev, s.st_ino): path for path, s in ours.items()}
    shared = {
        path: inodes[s.st_dev, s.st_ino]
        for path, s in theirs.items()
        if (s.st_dev, s.st_ino) in inodes
    }
    sizes = {path: s.st_size for path, s in (ours | theirs).items()}
    others = [path for path in theirs if path not in shared]
    sides = _alike(list(ours), others, sizes)
    for limit in (HEAD, -1):
        if limit < 0 and sum(sizes[p] for p in chain(*sides)) > MAX_BYTES:
            print_log(
                f'{sum(map(len, sides)):,} files of training and validation '
                'have the same sizes and beginnings, which is too many to '
                'compare them further.',
                logger='current',
            )
            return shared
        digests = {path: _digest(path, limit) for path in chain(*sides)}
        sides = _alike(*sides, digests)
    by_content = {digests[path]: path for path in sides[0]}
    return shared | {path: by_content[digests[path]] for path in sides[1]}


def _alike(
    first: list[str], second: list[str], keys: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """Keep the paths on each side whose key the other side also has."""
    both = {keys[p] for p in first} & {keys[p] for p in second}
    ours, theirs = ([p for p in s if keys[p] in both] for s in (first, second))
    return ours, theirs


def _stat(paths: Sequence[str]) -> dict[str, os.stat_result]:
    # Unreadable files are reported elsewhere.
    return {path: os.stat(path) for path in paths if os.path.exists(path)}


def _digest(path: str, limit: int) -> bytes:
    try:
        with open(path, 'rb') as file:
            content = file.read(limit)
    except OSError:  # as above; a path equals no digest
        return os.fsencode(path)
    return hashlib.blake2b(content, digest_size=16).digest()
