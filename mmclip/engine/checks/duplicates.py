"""A search for files that two sets share, by identity or content."""

import hashlib
import os
from collections.abc import Iterable, Sequence

from mmengine.logging import print_log

HEAD = 4096  # bytes in which most files of the same size differ
MAX_BYTES = 4 * 2**30  # to read of the others: a minute on a slow disk


def find_shared(first: Sequence[str], second: Sequence[str]) -> dict[str, str]:
    """Find local files of the second set that are also in the first.

    Files are compared by inode, so that links count, then by size, then by
    their first bytes, and only then by all of their content.

    Args:
        first (Sequence[str]): Paths.
        second (Sequence[str]): Paths.

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
    others = [path for path in theirs if path not in shared]
    keys = {path: s.st_size for path, s in (ours | theirs).items()}
    candidates = _alike(ours, others, keys)
    for limit in (HEAD, None):
        to_read = sum(keys[path] for side in candidates for path in side)
        if limit is None and to_read > MAX_BYTES:
            print_log(
                f'{sum(map(len, candidates)):,} files of training and '
                'validation have the same sizes and beginnings, which is too '
                'many to compare them further.',
                logger='current',
            )
            return shared
        found = {
            path: _digest(path, limit) for side in candidates for path in side
        }
        candidates = _alike(*candidates, found)
    by_content = {found[path]: path for path in candidates[0]}
    return shared | {path: by_content[found[path]] for path in candidates[1]}


def _alike(
    first: Iterable[str], second: Iterable[str], keys: dict
) -> tuple[list[str], list[str]]:
    """Keep the paths on each side whose key the other side also has."""
    sides = (list(first), list(second))
    values = [{keys[path] for path in side} for side in sides]
    both = values[0] & values[1]
    ours, theirs = ([p for p in s if keys[p] in both] for s in sides)
    return ours, theirs


def _stat(paths: Sequence[str]) -> dict[str, os.stat_result]:
    found = {}
    for path in paths:
        try:
            found[path] = os.stat(path)
        except OSError:  # unreadable files are reported elsewhere
            continue
    return found


def _digest(path: str, limit: int | None) -> bytes:
    try:
        with open(path, 'rb') as file:
            content = file.read(limit if limit is not None else -1)
    except OSError:  # as above; a path equals no digest
        return os.fsencode(path)
    return hashlib.blake2b(content, digest_size=16).digest()
