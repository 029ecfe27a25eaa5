"""Names of classes in the order of the folders whose labels they name."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from mmengine.logging import print_log

from mmclip.errors import DataError


def are_same_classes(first: list[str], second: list[str]) -> bool:
    """Whether lists are the same, or both of ImageNet, by names or synsets."""
    return first == second or (_is_imagenet(first) and _is_imagenet(second))


def misplaced(
    first: Sequence[str], second: Sequence[str]
) -> list[tuple[str, int, int]]:
    """Names that two lists of classes have in different places.

    Lists with other names may mean the same classes; where they share a name,
    it has to have the same number in both. 'Golden Retriever' and
    'golden_retriever' are one name: case, spaces, hyphens and underscores do
    not count.

    Args:
        first (Sequence[str]): Names in the order of the labels.
        second (Sequence[str]): The same, of somebody else.

    Returns:
        list[tuple[str, int, int]]: Each name as the first list has it, and
        its number in the first and in the second. Names that stand twice in
        a list are left out, and all lists of ImageNet's names that are in use
        agree.
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
    """Refuse names in another order than the folders that they name.

    Args:
        names (Sequence[str]): In the order of the labels, as somebody says.
        folders (Sequence[str]): Class folders in the order of their labels.
        where (str): Whose the names are, for the message.

    Raises:
        DataError: Naming the first that differ, and the order to give.
    """
    if wrong := misplaced(names, folders):
        listed = ', '.join(
            f'{name!r} is number {i}, its folder number {j}'
            for name, i, j in wrong[:3]
        )
        raise DataError(
            f'{where} names classes in another order than the folders, which '
            f'are numbered by the alphabet: {listed}'
            f'{" and so on" if len(wrong) > 3 else ""}. Give the names in '
            f'the order of the folders: {list_names(folders)}.'
        )


def check_folders(
    names: Sequence[str], folders: Sequence[str], where: str, root: str
) -> None:
    """Refuse names that are not one for each folder, in their order.

    Args:
        names (Sequence[str]): In the order of the labels, as somebody says.
        folders (Sequence[str]): Class folders in the order of their labels.
        where (str): Whose the names are, for messages.
        root (str): What holds the folders, for messages.

    Raises:
        DataError: If they have other numbers or another order.
    """
    if len(names) != len(folders):
        raise DataError(
            f'{where} has {len(names)} names, and {root} has {len(folders)} '
            f'class folders ({list_names(folders)}): one name per folder is '
            'needed, in the order of the folders.'
        )
    check_order(names, folders, where)
    warn_of_numbers(names, folders)


def check_listed(
    names: Sequence[str], labels: Mapping[str, int], where: str
) -> None:
    """Refuse names of which a list of images gives other folders the labels.

    Args:
        names (Sequence[str]): In the order of the labels, as somebody says.
        labels (Mapping[str, int]): Folders, and the label of their images.
        where (str): What lists the images, for the message.

    Raises:
        DataError: If folders named as two classes or more have others'
            labels.
    """
    place = {_plain(name): i for i, name in enumerate(names)}
    wrong = [
        f'{folder!r} has label {label} in the list, and its name is number '
        f'{place[_plain(folder)]}'
        for folder, label in labels.items()
        if place.get(_plain(folder), label) != label
    ]
    if len(wrong) > 1:
        raise DataError(
            f'metainfo.classes names classes in another order than the labels '
            f'of {where}: {", ".join(wrong[:3])}'
            f'{" and so on" if len(wrong) > 3 else ""}. Give the names in '
            'the order of the labels.'
        )


def warn_of_numbers(names: Sequence[str], folders: Sequence[str]) -> None:
    """Say which name folders get that are numbered, such as '10' before '2'.

    Args:
        names (Sequence[str]): In the order of the labels, as somebody says.
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
        'Class folders are numbered by the alphabet, not by their value, so '
        f'that of the given names {listed}. If that is wrong, give the names '
        'in this order, or write the numbers with leading zeros.',
        logger='current',
        level=logging.WARNING,
    )


def _plain(name: str) -> str:
    return re.sub(r'[\s_-]+', ' ', str(name)).strip().casefold()


def _is_imagenet(classes: list[str]) -> bool:
    """Whether these are ImageNet-1k's names or synsets, in their order."""
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
    """The first dozen of names, for messages."""
    more = ['...'] if len(names) > 12 else []
    return ', '.join([*map(str, names[:12]), *more])
