"""Classes with several names each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmclip.errors import ArgumentError

SEPARATOR = '|'
BACKGROUND = 'background'


@dataclass(frozen=True)
class ClassNames:
    """Classes, and the names by which a text tower knows them.

    Args:
        classes (list[str]): What each class is called: its first name.
        names (list[str]): All names of all classes.
        class_of (list[int]): The class of each name.
        background (int | None): The class of pixels that are none of the
            others.
    """

    classes: list[str]
    names: list[str]
    class_of: list[int]
    background: int | None = None


def parse_classes(
    lines: Sequence[str], background: str | None = None
) -> ClassNames:
    """Parse classes such as ``'cat'`` and ``'person|man|woman'``.

    Args:
        lines (Sequence[str]): The names of each class, with ``|`` between
            them.
        background (str | None): The names of a class ``background``, which is
            put before the others; it may be ``''``, for none. Defaults to
            None: no such class.

    Raises:
        ArgumentError: If there is nothing to choose from, a class has no
            name, or a name occurs twice.
    """
    groups = [_names(line) for line in lines]
    classes = [group[0] for group in groups]
    if background is not None:
        groups.insert(0, _names(background) if background else [])
        classes.insert(0, BACKGROUND)
    names = [name for group in groups for name in group]
    for name, count in Counter(names).items() | Counter(classes).items():
        if count > 1:
            raise ArgumentError(
                f'{name!r} is the name of {count} classes, or {count} times '
                'that of one: use each name once.'
            )
    if len(classes) < 2 or sum(map(len, groups)) < 2:
        raise ArgumentError(
            'At least two names are needed to choose from, such as '
            f'"cat,grass|lawn,sky"; got {", ".join(classes) or "none"}.'
        )
    return ClassNames(
        classes,
        names,
        [i for i, group in enumerate(groups) for _ in group],
        None if background is None else 0,
    )


def _names(line: str) -> list[str]:
    names = [name.strip() for name in line.split(SEPARATOR)]
    if not all(names):
        raise ArgumentError(
            f'{line!r} has an empty name: write NAME or NAME|NAME.'
        )
    return names
