"""Checks that class names are in the order of the labels."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from mmclip.errors import DataError, some


def are_same_classes(first: list[str], second: list[str]) -> bool:
    """Tell whether two lists name the same classes in the same order.

    ImageNet-1k's usual lists of names and of synsets all count as the same.
    """
    return first == second or (_is_imagenet(first) and _is_imagenet(second))


def misplaced(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Say which names two lists of classes have in different places.

    Different names may mean the same class, but a name that both lists share
    must have the same number in both. Case, spaces, hyphens and underscores
    do not matter: 'Golden Retriever' and 'golden_retriever' are one name.
    Names that occur twice in a list are left out, and ImageNet's usual lists
    all agree.
    """
    names = [str(name) for name in first]
    if are_same_classes(names, [str(name) for name in second]):
        return []
    one, other = [*map(_plain, first)], [*map(_plain, second)]
    counts, place = Counter(one + other), {n: i for i, n in enumerate(other)}
    return [
        f'{names[i]!r} is number {i} in one and {place[name]} in the other'
        for i, name in enumerate(one)
        if place.get(name, i) != i and counts[name] == 2
    ]


def in_common(first: Sequence[str], second: Sequence[str]) -> set[str]:
    """Return names that both lists have, as :func:`misplaced` reads them."""
    return {*map(_plain, first)} & {*map(_plain, second)}


def only_in(**sides: Sequence[str]) -> str:
    """List the names that only one of two lists has, for messages."""
    (one, first), (other, second) = sides.items()
    return '; '.join(
        f'only in {side}: {list_names(names)}'
        for side, names in (
            (one, [name for name in first if name not in second]),
            (other, [name for name in second if name not in first]),
        )
        if names
    )


def check_order(
    names: Sequence[str], folders: Sequence[str], where: str
) -> None:
    """Refuse names that are not in the order of the folders that they name.

    Folder '10' precedes folder '2': a warning lists the names of numbered
    folders whose order may surprise.
    """
    if wrong := misplaced(names, folders):
        raise DataError(
            f'{where} lists the classes in a different order from the '
            f'folders, which are numbered alphabetically: {some(wrong)}. List '
            f'the names in the order of the folders: {list_names(folders)}.'
        )
    numbered = all(map(str.isdecimal, folders))
    in_order = numbered and sorted(folders, key=int) == list(folders)
    if numbered and not in_order and not all(map(str.isdecimal, names)):
        pairs = zip(folders, names, strict=True)
        listed = ', '.join(f'{folder} is {name!r}' for folder, name in pairs)
        from mmengine.logging import print_log

        print_log(
            'Class folders are sorted as text, not as numbers, so the given '
            f'names mean: {listed}. If that is wrong, list the names in this '
            'order, or pad the numbers with zeros.',
            logger='current',
            level=logging.WARNING,
        )


def check_folders(
    names: Sequence[str], folders: Sequence[str], where: str, root: str
) -> None:
    """Refuse names that are not one per folder, in the same order.

    Arguments are those of :func:`check_order`, and the folder ``root`` of the
    class folders, for messages.
    """
    if len(names) != len(folders):
        raise DataError(
            f'{where} has {len(names)} names, but {root} has {len(folders)} '
            f'class folders ({list_names(folders)}): give one name per '
            'folder, in the order of the folders.'
        )
    check_order(names, folders, where)


def check_listed(
    names: Sequence[str], labels: Mapping[str, int], where: str
) -> None:
    """Refuse names that do not match the labels in a list of images."""
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
            f'the labels of {where}: {some(wrong)}. List the names in the '
            'order of the labels.'
        )


def list_names(names: Sequence[str]) -> str:
    """List the first dozen names, for messages."""
    return some(names, 12)


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
