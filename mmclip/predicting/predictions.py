"""A table of answers."""

import csv
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mmclip.checkpoint.files.atomic import atomic_file

MOST = 5  # names per image in a table
SHOWN = 20  # images that a screen or notebook shows
FORMULA = ('=', '+', '-', '@', '\t', '\r')  # what spreadsheets compute


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Args:
        path (str): The image.
        names (tuple[str, ...]): The most probable classes, best first; none
            if the image cannot be read.
        probabilities (tuple[float, ...]): Theirs.
        is_sure (bool): Whether the first is at or above the threshold.
        note (str): Why the image cannot be read. Defaults to ''.
    """

    path: str
    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    is_sure: bool
    note: str = ''

    @property
    def name(self) -> str:
        """The most probable class, '' if the image cannot be read."""
        return self.names[0] if self.names else ''

    @property
    def probability(self) -> float:
        """Its probability, nan if the image cannot be read."""
        return self.probabilities[0] if self.names else float('nan')

    def __str__(self) -> str:
        if not self.names:
            return 'unreadable'
        unsure = '' if self.is_sure else ' (not sure)'
        return f'{self.name} {100 * self.probability:.1f} %{unsure}'


class Predictions(Sequence[Prediction]):
    """The answers for several images, in their order.

    Args:
        paths (Sequence[str]): The images.
        probabilities (Tensor): ``(N, K)``; rows of unreadable images have
            any values.
        classes (Sequence[str]): K names.
        threshold (float): The probability below which an answer is not sure.
        unreadable (Mapping[int, str] | None): Why images cannot be read, by
            row. Defaults to None: all can.
    """

    def __init__(
        self,
        paths: Sequence[str],
        probabilities: Tensor,
        classes: Sequence[str],
        threshold: float,
        unreadable: Mapping[int, str] | None = None,
    ):
        self.paths, self.classes = list(paths), list(classes)
        self.probabilities, self.threshold = probabilities, threshold
        self._notes = dict(unreadable or {})
        values, labels = probabilities.topk(min(MOST, len(self.classes)))
        self._values, self._labels = values.tolist(), labels.tolist()

    @property
    def unreadable(self) -> list[Prediction]:
        """The images that cannot be read; their ``note`` says why."""
        return [self[row] for row in sorted(self._notes)]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, row: Any) -> Any:
        """Return the answer for one image, or a list of them."""
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        if row in self._notes:
            return Prediction(self.paths[row], (), (), False, self._notes[row])
        return Prediction(
            self.paths[row],
            tuple(self.classes[label] for label in self._labels[row]),
            tuple(self._values[row]),
            self._values[row][0] >= self.threshold,
        )

    def sections(self) -> list[tuple[str, list[Prediction]]]:
        """Return the images with the same answer, the least sure first."""
        groups: defaultdict[str, list[Prediction]] = defaultdict(list)
        unsure = []
        read = [answer for answer in self if answer.names]
        for answer in sorted(read, key=lambda answer: answer.probability):
            if answer.is_sure:
                groups[answer.name].append(answer)
            else:
                unsure.append(answer)
        found = sorted(groups.items(), key=lambda group: -len(group[1]))
        return [('not sure', unsure), *found] if unsure else found

    def summary(self) -> str:
        """Say how many images there are of each class, and not sure."""
        read = [answer for answer in self if answer.names]
        unsure = [answer for answer in read if not answer.is_sure]
        counts = Counter(answer.name for answer in read).most_common()
        shown = [f'{printable(n)} {count:,}' for n, count in counts[:SHOWN]]
        if len(counts) > SHOWN:
            shown.append(f'{len(counts) - SHOWN} more classes')
        first = [f'{len(self):,} image{"" if len(self) == 1 else "s"}']
        first += [f'{len(unsure):,} not sure'] if unsure else []
        first += [f'{len(self._notes):,} unreadable'] if self._notes else []
        return ', '.join(first) + ''.join(f'\n  {line}' for line in shown)

    def __repr__(self) -> str:
        lines = [f'{printable(a.path)}: {printable(a)}' for a in self[:SHOWN]]
        more = len(self) - SHOWN
        return '\n'.join([*lines, *([f'{more:,} more'] if more > 0 else [])])

    def _repr_html_(self) -> str:
        from mmclip.predicting.page import notebook_cell

        return notebook_cell(self)

    def rows(self) -> Iterator[list[str]]:
        """Yield the header and a row per image, as texts."""
        columns = min(MOST, len(self.classes))
        header = ['path', 'prediction', 'probability']
        for i in range(2, columns + 1):
            header += [f'prediction_{i}', f'probability_{i}']
        yield [*header, 'sure']
        for answer in self:
            if not answer.names:
                yield [answer.path, *[''] * len(header)]
                continue
            row = [answer.path]
            for name, value in zip(
                answer.names, answer.probabilities, strict=True
            ):
                row += [name, f'{value:.4f}']
            yield [*row, 'yes' if answer.is_sure else 'no']

    def to_csv(self, path: str | Path) -> None:
        """Write ``path,prediction,probability``, the next four, and notes.

        What a spreadsheet would compute is written as text: names of classes
        that begin like a formula get an apostrophe, and paths ``./``.
        """
        header, *rows = self.rows()
        with (
            atomic_file(path) as temporary,
            open(
                temporary,
                'w',
                encoding='utf-8',
                errors='surrogateescape',  # the bytes of the file's name
                newline='',
            ) as file,
        ):
            writer = csv.writer(file)
            writer.writerow([*header, 'note'])
            for row, (name, *cells) in enumerate(rows):
                start = './' if name.startswith(FORMULA) else ''
                note = self._notes.get(row, '')
                writer.writerow([start + name, *map(_as_text, cells), note])

    def to_html(self, path: str | Path, title: str = 'Answers') -> None:
        """Write a page with small pictures, in one file."""
        from mmclip.predicting.page import write_page

        write_page(self, Path(path), title)


def printable(text: object) -> str:
    """Return a text without characters that control a terminal."""
    return ''.join(
        c.encode('unicode_escape').decode()
        if unicodedata.category(c) in ('Cc', 'Cs')
        else c
        for c in str(text)
    )


def _as_text(cell: str) -> str:
    if not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell  # a number, such as -1
