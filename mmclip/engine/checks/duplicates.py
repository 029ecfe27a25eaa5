"""A search for files that two sets share, by identity or content."""

import hashlib
import os
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

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
            _log_too_many([*chain(*sides)])
            return shared
        digests = {path: _digest(path, limit) for path in chain(*sides)}
        sides = _alike(*sides, digests)
    by_content = {digests[path]: path for path in sides[0]}
    return shared | {path: by_content[digests[path]] for path in sides[1]}


def find_copies(paths: Sequence[str]) -> list[list[str]]:
    """Find local files with the same content, as :func:`find_shared` does.

    Returns:
        list[list[str]]: Groups of two or more. Large files whose beginnings
        agree are compared further only if there are not too many of them.
    """
    stats = _stat(paths)
    links = _groups(list(stats), lambda p: (stats[p].st_dev, stats[p].st_ino))
    sizes = {group[0]: stats[group[0]].st_size for group in links}
    copies: list[list[str]] = []
    todo: list[str] = []
    for same_size in _groups(list(sizes), sizes.__getitem__, least=2):
        alike = _groups(same_size, lambda p: _digest(p, HEAD), least=2)
        if sizes[same_size[0]] <= HEAD:
            copies += alike
        else:
            todo += chain(*alike)
    if sum(sizes[path] for path in todo) > MAX_BYTES:
        _log_too_many(todo)
    else:
        copies += _groups(todo, lambda p: _digest(p, -1), least=2)
    of = {group[0]: group for group in links}
    grouped = {path for group in copies for path in group}
    return [
        *([path for first in group for path in of[first]] for group in copies),
        *(g for g in links if len(g) > 1 and g[0] not in grouped),
    ]


def _groups(
    paths: list[str], key: Callable[[str], Any], least: int = 1
) -> list[list[str]]:
    """Group paths by a key, leaving small groups out."""
    found: dict[Any, list[str]] = {}
    for path in paths:
        found.setdefault(key(path), []).append(path)
    return [group for group in found.values() if len(group) >= least]


def _log_too_many(paths: Sequence[str]) -> None:
    from mmengine.logging import print_log

    print_log(
        f'{len(paths):,} files have the same sizes and beginnings as others, '
        'which is too many to compare them further.',
        logger='current',
    )


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
