"""What the readers of all forms return, and how it becomes one table."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from mmclip.datasets.table_rows import SEPARATOR
from mmclip.errors import DataError, some
from mmclip.own_images.images import SPLITS, Finding, Images

# What users call their splits.
SPLIT_NAMES = dict(
    train=('train', 'training'),
    val=('val', 'valid', 'validation', 'dev'),
    test=('test', 'testing'),
)
_SPLITS = {name: split for split, all_ in SPLIT_NAMES.items() for name in all_}


class Row(NamedTuple):
    """An image as its source describes it.

    Args:
        path (str): Relative to the root.
        labels (tuple[str, ...]): Names of classes.
        split (str): A name in ``SPLITS``, or ``''`` if the source has none.
    """

    path: str
    labels: tuple[str, ...]
    split: str = ''


@dataclass
class Listing:
    """All images of a source.

    Args:
        source (str): What the user named, for messages.
        root (str): The folder that paths are relative to.
        rows (list[Row]): The images.
        findings (list[Finding]): What is doubtful.
    """

    source: str
    root: str
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def has_several_labels(self) -> bool:
        """Tell whether an image has several labels, or none."""
        return any(len(row.labels) != 1 for row in self.rows)

    def images(self) -> Images:
        """Number the classes, and check what all forms have in common.

        Rows without a split are training images.

        Raises:
            DataError: If there is no image, no training image, fewer than two
                classes, a class without training images, an image in several
                rows, or a name that cannot be written.
        """
        if not self.rows:
            raise DataError(f'{self.source} has no images.')
        splits = tuple(row.split or 'train' for row in self.rows)
        if 'train' not in splits:
            raise DataError(
                f'{self.source} has no training images, only {_and(splits)}.'
            )
        self._refuse_repeated()
        classes = sorted(
            {
                label
                for row, split in zip(self.rows, splits, strict=True)
                if split == 'train'
                for label in row.labels
            }
        )
        self._check_classes(classes)
        numbers = {name: i for i, name in enumerate(classes)}
        if empty := [row.path for row in self.rows if not row.labels]:
            self.findings.append(
                Finding(
                    'unlabelled',
                    f'{number(empty, "image")} without a label: none of the '
                    f'classes is there, such as in {empty[0]}.',
                    tuple(empty),
                )
            )
        return Images(
            self.root,
            tuple(row.path for row in self.rows),
            tuple(
                tuple(sorted(numbers[label] for label in row.labels))
                for row in self.rows
            ),
            splits,
            tuple(classes),
            self.has_several_labels(),
            findings=tuple(self.findings),
        )

    def _refuse_repeated(self) -> None:
        counts = Counter(row.path for row in self.rows)
        if repeated := [path for path, n in counts.items() if n > 1]:
            raise DataError(
                f'{self.source} has {number(repeated, "image")} in more than '
                f'one row: {some(repeated, 3)}. Give each image one row; '
                f'several labels go into one column "labels", with '
                f'{SEPARATOR} between them.'
            )
        for path in counts:
            if not path.isprintable():
                _check_text(path, 'path')

    def _check_classes(self, classes: list[str]) -> None:
        known = set(classes)
        unknown = {n for row in self.rows for n in row.labels} - known
        if unknown:
            raise DataError(
                f'{self.source} has '
                f'{number(unknown, "class", "classes")} without training '
                f'images: {some(sorted(unknown))}.'
            )
        if len(classes) < 2:
            what = f'one class only ({classes[0]})' if classes else 'no class'
            raise DataError(
                f'{self.source} has images of {what}: at least two are needed.'
            )
        several = self.has_several_labels()
        for name in classes:
            if not name.isprintable():
                _check_text(name, 'class name')
            if several and SEPARATOR in name:
                raise DataError(
                    f'The class name {name!r} has a {SEPARATOR}, which '
                    'separates the labels of an image that has several; '
                    'give it another name.'
                )


def split_named(name: str) -> str | None:
    """Return the split that people call so, or None."""
    return _SPLITS.get(name.strip().lower())


def number(things: Collection[object], noun: str, plural: str = '') -> str:
    """Format how many things there are, such as '2 images'."""
    plural = plural or f'{noun}s'
    return f'{len(things):,} {noun if len(things) == 1 else plural}'


def _and(splits: Collection[str]) -> str:
    return ' and '.join(split for split in SPLITS if split in splits)


def _check_text(text: str, what: str) -> None:
    """Refuse what cannot be a line of a UTF-8 text file."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(
            f'The {what} {text!r} is not valid Unicode: rename it.'
        ) from None
    if len(text.splitlines()) > 1 or '\n' in text or '\r' in text:
        raise DataError(f'The {what} {text!r} has a line break: rename it.')
