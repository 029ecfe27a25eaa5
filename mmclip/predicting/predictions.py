"""A table of answers."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mmclip.checkpoint.files.atomic import atomic_file

MOST = 5  # names per image in a table
NOT_SURE = 'not sure'


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Args:
        path (str): The image.
        names (tuple[str, ...]): The most probable classes, best first.
        probabilities (tuple[float, ...]): Theirs.
        is_sure (bool): Whether the first is at or above the threshold.
    """

    path: str
    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    is_sure: bool

    @property
    def name(self) -> str:
        """The most probable class."""
        return self.names[0]

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.probabilities[0]


class Predictions(Sequence[Prediction]):
    """The answers for several images, in their order.

    Args:
        paths (Sequence[str]): The images.
        probabilities (Tensor): ``(N, K)``.
        classes (Sequence[str]): K names.
        threshold (float): The probability below which an answer is not sure.
    """

    def __init__(
        self,
        paths: Sequence[str],
        probabilities: Tensor,
        classes: Sequence[str],
        threshold: float,
    ):
        self.paths, self.classes = list(paths), list(classes)
        self.probabilities, self.threshold = probabilities, threshold
        values, labels = probabilities.topk(min(MOST, len(self.classes)))
        self._values, self._labels = values.tolist(), labels.tolist()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, row: Any) -> Any:
        """Return the answer for one image, or a list of them."""
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        return Prediction(
            self.paths[row],
            tuple(self.classes[label] for label in self._labels[row]),
            tuple(self._values[row]),
            self._values[row][0] >= self.threshold,
        )

    def rows(self) -> Iterator[list[str]]:
        """Yield the header and a row per image, as texts."""
        header = ['path', 'prediction', 'probability']
        for i in range(2, len(self._labels[0]) + 1 if self._labels else 2):
            header += [f'prediction_{i}', f'probability_{i}']
        yield [*header, 'sure']
        for answer in self:
            row = [answer.path]
            for name, value in zip(
                answer.names, answer.probabilities, strict=True
            ):
                row += [name, f'{value:.4f}']
            yield [*row, 'yes' if answer.is_sure else 'no']

    def to_csv(self, path: str | Path) -> None:
        """Write ``path,prediction,probability``, then the next four."""
        with (
            atomic_file(path) as temporary,
            open(temporary, 'w', encoding='utf-8', newline='') as file,
        ):
            csv.writer(file).writerows(self.rows())
