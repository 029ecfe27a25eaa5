"""A user's own images as one table, whatever form they came in."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.datasets.image_table import COLUMNS, SEPARATOR

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Images:
    """Images with their labels and splits.

    Args:
        root (str): The folder that paths are relative to.
        paths (tuple[str, ...]): A path per image.
        labels (tuple[tuple[int, ...], ...]): The numbers of each image's
            classes: one, unless ``several_labels``.
        splits (tuple[str, ...]): ``'train'``, ``'val'`` or ``'test'``.
        classes (tuple[str, ...]): Names in the order of the numbers.
        several_labels (bool): Whether an image may have several labels, or
            none. Defaults to False.
        made_split (str): How the splits were made, for people; empty if the
            user made them.
    """

    root: str
    paths: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    several_labels: bool = False
    made_split: str = ''

    def __len__(self) -> int:
        return len(self.paths)

    def full_path(self, row: int) -> str:
        """Return the path of an image from the working directory."""
        return os.path.join(self.root, self.paths[row])

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of a split, ``(n,)``."""
        return np.flatnonzero(np.array(self.splits) == split)

    def first_labels(self) -> np.ndarray:
        """Return the one label of each image, ``(N,)``."""
        return np.array([labels[0] for labels in self.labels], dtype=np.int64)

    def targets(self) -> np.ndarray:
        """Return which labels each image has, ``(N, K)`` booleans."""
        found = np.zeros((len(self), len(self.classes)), dtype=bool)
        for row, labels in enumerate(self.labels):
            found[row, list(labels)] = True
        return found

    def take(self, rows: Sequence[int] | np.ndarray) -> 'Images':
        """Return some of the rows, with all classes."""
        return Images(
            self.root,
            tuple(self.paths[i] for i in rows),
            tuple(self.labels[i] for i in rows),
            tuple(self.splits[i] for i in rows),
            self.classes,
            self.several_labels,
            self.made_split,
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
