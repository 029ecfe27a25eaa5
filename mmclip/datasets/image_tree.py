"""The contents of a tree of class folders: images and everything else."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from mmclip.datasets.transforms.formats import SUFFIXES, is_image

# Folders and files that Windows, macOS, NAS devices and programs create among
# a user's own, in lower case.
NOT_THE_USERS = {
    '__macosx',
    '__pycache__',
    '@eadir',
    '#recycle',
    '#snapshot',
    '@recycle',
    '$recycle.bin',
    'system volume information',
    'thumbs.db',
    'desktop.ini',
    'lost+found',
}


@dataclass
class ImageTree:
    """The contents of a folder.

    Args:
        root (str): The folder.
        folders (list[str]): Names of the class folders, sorted.
        images (list[tuple[str, str]]): Path of each image relative to
            ``root``, and its class folder (``''`` if it is in none); sorted
            by folder, then by path.
        others (list[str]): Files that are not images.
        hidden (list[str]): Hidden files and folders, and those that systems
            create; the contents of such folders are not listed.
    """

    root: str
    folders: list[str] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)


def read_tree(
    root: str, is_valid: Callable[[str], bool] | None = None
) -> ImageTree:
    """List a folder and everything below it, following links to folders.

    Args:
        root (str): A folder, or an address that mmengine can list.
        is_valid (Callable | None): Tells whether a path is an image.
            Defaults to None: for local files,
            :func:`mmclip.datasets.transforms.formats.is_image`; the suffix
            for others.
    """
    backend = _remote(root)
    if backend is None:
        folders, files, hidden = _walk(root)
        is_valid = is_valid or (
            lambda path: is_image(os.path.join(root, path))
        )
    else:
        folders, files, hidden = _list_remote(backend, root)
        is_valid = is_valid or _has_image_suffix
    tree = ImageTree(root, sorted(folders), hidden=sorted(hidden))
    by_folder: dict[str, list[str]] = {}
    for path in files:
        folder, _, rest = path.partition('/')
        by_folder.setdefault(folder if rest else '', []).append(path)
    for folder in sorted(by_folder):
        for path in sorted(by_folder[folder]):
            if is_valid(path):
                tree.images.append((path, folder))
            else:
                tree.others.append(path)
    return tree


def check_folder(root: str, with_label: bool) -> None:
    """Refuse a folder of images that does not exist."""
    if _is_folder(root):
        return
    above = Path(os.path.abspath(root)).parent
    while not above.is_dir():
        above = above.parent
    folders = sorted(path.name for path in above.iterdir() if path.is_dir())
    wanted = 'one folder per class' if with_label else 'the images'
    raise FileNotFoundError(
        f'There is no folder {root} ({above} has '
        f'{", ".join(folders[:10]) or "no folders"}). It must hold {wanted}: '
        "correct the data set's data_root or data_prefix."
    )


def class_folders(root: str) -> list[str]:
    """List the class folders in a folder, in the order of their labels."""
    if not _is_folder(root):
        raise FileNotFoundError(f'There is no folder {root}.')
    if backend := _remote(root):
        names = backend.list_dir_or_file(root, list_file=False)
    else:
        names = (entry.name for entry in os.scandir(root) if entry.is_dir())
    return sorted(name for name in names if not is_hidden(name))


def warn_of_others(tree: ImageTree) -> None:
    """Log how many files, by suffix, are not images."""
    if tree.others:
        from mmengine.logging import print_log

        print_log(
            f'{tree.root}: left out {number_of(len(tree.others), "file")} '
            'that cannot be read as an image '
            f'({count_suffixes(tree.others)}), such as {tree.others[0]}.',
            logger='current',
            level=logging.WARNING,
        )


def is_hidden(name: str) -> bool:
    """Tell whether a name is of a hidden file, or one that systems create."""
    return name.startswith('.') or name.lower() in NOT_THE_USERS


def number_of(count: int, noun: str) -> str:
    """Format a count and a noun, such as '1 image' or '2 images'."""
    return f'{count:,} {noun}{"" if count == 1 else "s"}'


def count_suffixes(paths: Iterable[str]) -> str:
    """List how many files have each suffix, for messages."""
    counts = Counter(PurePath(p).suffix.lower() or 'none' for p in paths)
    return ', '.join(f'{n} {suffix}' for suffix, n in counts.most_common(5))


def _walk(root: str) -> tuple[list[str], list[str], list[str]]:
    """List class folders, files and hidden entries, relative to ``root``."""
    files: list[str] = []
    hidden: list[str] = []
    folders: list[str] = []
    # Each with the real paths of the folders above, to end cycles of links.
    todo = [('', {os.path.realpath(root)})]
    while todo:
        prefix, above = todo.pop()
        with os.scandir(os.path.join(root, prefix)) as entries:
            for entry in entries:
                path = prefix + entry.name
                if is_hidden(entry.name):
                    hidden.append(path)
                elif entry.is_dir():
                    if not prefix:
                        folders.append(path)
                    place = os.path.realpath(entry.path)
                    if place not in above:
                        todo.append((path + '/', above | {place}))
                elif entry.is_file() or entry.is_symlink():
                    files.append(path)
    return folders, files, hidden


def _remote(root: str) -> Any | None:
    """Return what lists an address, or None for a folder of this machine.

    mmengine imports torch, which a folder does not need.
    """
    if '://' not in root:
        return None
    from mmengine.fileio import LocalBackend, get_file_backend

    backend = get_file_backend(root)
    return None if isinstance(backend, LocalBackend) else backend


def _is_folder(root: str) -> bool:
    backend = _remote(root)
    return backend.isdir(root) if backend else os.path.isdir(root)


def _list_remote(
    backend: Any, root: str
) -> tuple[list[str], list[str], list[str]]:
    entries = list(backend.list_dir_or_file(root, list_file=False))
    hidden = [name for name in entries if is_hidden(name)]
    folders = [name for name in entries if name not in hidden]
    files: list[str] = []
    for path in backend.list_dir_or_file(root, list_dir=False, recursive=True):
        (files, hidden)[any(map(is_hidden, PurePath(path).parts))].append(path)
    return folders, files, hidden


def _has_image_suffix(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES
