"""Checks that class names are in the order of the labels."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from mmengine.logging import print_log

from mmclip.errors import DataError


def are_same_classes(first: list[str], second: list[str]) -> bool:
    """Tell whether two lists name the same classes in the same order.

    ImageNet-1k's usual lists of names and of synsets all count as the same.
    """
    return first == second or (_is_imagenet(first) and _is_imagenet(second))


def misplaced(
    first: Sequence[str], second: Sequence[str]
) -> list[tuple[str, int, int]]:
    """Find the names that two lists of classes have in different places.

    Different names may mean the same class, but a name that both lists share
    must have the same number in both. Case, spaces, hyphens and underscores
    do not matter: 'Golden Retriever' and 'golden_retriever' are one name.

    Args:
        first (Sequence[str]): Names in the order of the labels.
        second (Sequence[str]): The same from another source.

    Returns:
        list[tuple[str, int, int]]: Each name as in the first list, with its
        number in the first and in the second. Names that occur twice in a
        list are left out, and ImageNet's usual lists all agree.
    """
    names = [str(name) for name in first]
    if are_same_classes(names, [str(name) for name in second]):
        return []
    one, other = [*map(_plain, first)], [*map(_plain, second)]
    counts, place = Counter(one + other), {n: i for i, n in enumerate(other)}
    return [
        (names[i], i, place[name])
        for i, name in enumerate(one)
        if place.get(name, i) != i and counts[name] == 2
    ]


def check_order(
    names: Sequence[str], folders: Sequence[str], where: str
) -> None:
    """Refuse names that are not in the order of the folders that they name.

    Args:
        names (Sequence[str]): The given names, one per label.
        folders (Sequence[str]): Class folders in the order of their labels.
        where (str): Where the names come from, for the message.

    Raises:
        DataError: If they are not; the message names the first that differ
            and the right order.
    """
    if wrong := misplaced(names, folders):
        listed = ', '.join(
            f'{name!r} is number {i}, its folder is number {j}'
            for name, i, j in wrong[:3]
        )
        raise DataError(
            f'{where} lists the classes in a different order from the '
            f'folders, which are numbered alphabetically: {listed}'
            f'{" and so on" if len(wrong) > 3 else ""}. List the names in '
            f'the order of the folders: {list_names(folders)}.'
        )


def check_folders(
    names: Sequence[str], folders: Sequence[str], where: str, root: str
) -> None:
    """Refuse names that are not one per folder, in the same order.

    Args:
        names (Sequence[str]): The given names, one per label.
        folders (Sequence[str]): Class folders in the order of their labels.
        where (str): Where the names come from, for messages.
        root (str): The folder of the class folders, for messages.

    Raises:
        DataError: If their number or order differs.
    """
    if len(names) != len(folders):
        raise DataError(
            f'{where} has {len(names)} names, but {root} has {len(folders)} '
            f'class folders ({list_names(folders)}): give one name per '
            'folder, in the order of the folders.'
        )
    check_order(names, folders, where)
    warn_of_numbers(names, folders)


def check_listed(
    names: Sequence[str], labels: Mapping[str, int], where: str
) -> None:
    """Refuse names that do not match the labels in a list of images.

    Args:
        names (Sequence[str]): The given names, one per label.
        labels (Mapping[str, int]): The label of each folder's images.
        where (str): The list of images, for the message.

    Raises:
        DataError: If two or more folders that are named like a class have
            the label of another.
    """
    place = {_plain(name): i for i, name in enumerate(names)}
    wrong = [
        f'{folder!r} has label {label} in the list, but its name is number '
        f'{place[_plain(folder)]}'
        for folder, label in labels.items()
        if place.get(_plain(folder), label) != label
    ]
    if len(wrong) > 1:
        raise DataError(
            f'metainfo.classes lists the classes in a different order from '
            f'the labels of {where}: {", ".join(wrong[:3])}'
            f'{" and so on" if len(wrong) > 3 else ""}. List the names in '
            'the order of the labels.'
        )


def warn_of_numbers(names: Sequence[str], folders: Sequence[str]) -> None:
    """Log the names of numbered folders whose order may surprise.

    Folder '10' precedes folder '2', for example.

    Args:
        names (Sequence[str]): The given names, one per label.
        folders (Sequence[str]): Class folders in the order of their labels.
    """
    numbered = all(map(str.isdecimal, folders))
    if not numbered or sorted(folders, key=int) == list(folders):
        return
    pairs = zip(folders, names, strict=True)
    if all(map(str.isdecimal, names)):
        return
    listed = ', '.join(f'{folder} is {name!r}' for folder, name in pairs)
    print_log(
        'Class folders are sorted as text, not as numbers, so the given '
        f'names mean: {listed}. If that is wrong, list the names in this '
        'order, or pad the numbers with zeros.',
        logger='current',
        level=logging.WARNING,
    )


def _plain(name: str) -> str:
    return re.sub(r'[\s_-]+', ' ', str(name)).strip().casefold()


def _is_imagenet(classes: list[str]) -> bool:
    """Tell whether these are ImageNet-1k's names or synsets, in order."""
    if len(classes) != 1000:
        return False
    import open_clip
    from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
    from timm.data import ImageNetInfo

    lists = (
        IMAGENET_CATEGORIES,
        open_clip.IMAGENET_CLASSNAMES,
        ImageNetInfo().label_names(),
    )
    return any(classes == list(names) for names in lists)


def list_names(names: Sequence[str]) -> str:
    """List the first dozen names, for messages."""
    more = ['...'] if len(names) > 12 else []
    return ', '.join([*map(str, names[:12]), *more])
