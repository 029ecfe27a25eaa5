"""A user's own images, whatever form they came in."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.datasets.table_rows import COLUMNS, SEPARATOR

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Finding:
    """Something doubtful about the images, which does not stop a run.

    Args:
        kind (str): One word for programs, such as ``'small'``.
        text (str): A sentence or two for people.
        paths (tuple[str, ...]): The images, or the first of them.
    """

    kind: str
    text: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Images:
    """Images with their labels and splits.

    Args:
        root (str): The folder that paths are relative to; absolute, as
            :func:`mmclip.own_images.read.read_images` has it.
        paths (tuple[str, ...]): A path per image.
        labels (tuple[tuple[int, ...], ...]): The numbers of each image's
            classes: one, unless ``several_labels``.
        splits (tuple[str, ...]): ``'train'``, ``'val'`` or ``'test'``.
        classes (tuple[str, ...]): Names in the order of the numbers.
        several_labels (bool): Whether an image may have several labels, or
            none. Defaults to False.
        made_split (str): How the splits were made, for people; empty if the
            user made them.
        findings (tuple[Finding, ...]): What was noticed while reading.
    """

    root: str
    paths: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    several_labels: bool = False
    made_split: str = ''
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def full_path(self, row: int) -> str:
        """Return the path of an image."""
        return os.path.join(self.root, self.paths[row])

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of a split, ``(n,)``."""
        return np.flatnonzero(np.array(self.splits) == split)

    def first_labels(self) -> np.ndarray:
        """Return the first label of each image, ``(N,)``; -1 for none."""
        return np.array([(*n, -1)[0] for n in self.labels], dtype=np.int64)

    def per_class(self, split: str) -> np.ndarray:
        """Count the images of a split that have each class, ``(K,)``."""
        labels = [n for row in self.rows(split) for n in self.labels[row]]
        return np.bincount(
            np.array(labels, dtype=np.int64), minlength=len(self.classes)
        )

    def targets(self) -> np.ndarray:
        """Return which labels each image has, ``(N, K)`` booleans."""
        found = np.zeros((len(self), len(self.classes)), dtype=bool)
        for row, labels in enumerate(self.labels):
            found[row, list(labels)] = True
        return found

    def take(self, rows: Sequence[int] | np.ndarray) -> 'Images':
        """Return some of the rows, with all classes."""
        return replace(
            self,
            paths=tuple(self.paths[i] for i in rows),
            labels=tuple(self.labels[i] for i in rows),
            splits=tuple(self.splits[i] for i in rows),
        )

    def write(self, path: Path) -> None:
        """Write the table that :class:`mmclip.ImageTable` reads."""
        with (
            atomic_file(path) as temporary,
            open(temporary, 'w', encoding='utf-8', newline='') as file,
        ):
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for name, labels, split in zip(
                self.paths, self.labels, self.splits, strict=True
            ):
                names = [self.classes[label] for label in labels]
                writer.writerow((name, SEPARATOR.join(names), split))
