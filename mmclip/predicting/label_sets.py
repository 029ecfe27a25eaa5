"""A table of answers that may have several labels, or none."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mmclip.datasets.table_rows import SEPARATOR
from mmclip.predicting.predictions import (
    MOST,
    SHOWN,
    Prediction,
    Predictions,
    printable,
)

NONE = 'none'  # of the classes, for people


@dataclass(frozen=True)
class LabelSet(Prediction):
    """The labels of one image.

    ``names`` and ``probabilities`` are the five most probable classes,
    whether the image gets them or not.

    Args:
        labels (Mapping[str, float]): The classes that the image gets, and
            their probabilities, the most probable first. Defaults to none.
    """

    labels: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.names:
            return 'unreadable'
        said = (f'{k} {100 * v:.1f} %' for k, v in self.labels.items())
        return ', '.join(said) or NONE


class LabelSets(Predictions):
    """The labels of several images, in their order.

    Args:
        paths (Sequence[str]): The images.
        probabilities (Tensor): ``(N, K)``; rows of unreadable images have
            any values.
        classes (Sequence[str]): K names.
        thresholds (Tensor): ``(K,)``. An image gets the classes whose
            probability is at or above theirs.
        unreadable (Mapping[int, str] | None): Why images cannot be read, by
            row. Defaults to None: all can.
    """

    def __init__(
        self,
        paths: Sequence[str],
        probabilities: Tensor,
        classes: Sequence[str],
        thresholds: Tensor,
        unreadable: Mapping[int, str] | None = None,
    ):
        super().__init__(paths, probabilities, classes, 0.0, unreadable)
        self.thresholds = thresholds
        self.given = probabilities >= thresholds

    def __getitem__(self, row: Any) -> Any:
        """Return the labels of one image, or a list of them."""
        found = super().__getitem__(row)
        if isinstance(row, slice) or not found.names:
            return found
        values = self.probabilities[row]
        given = self.given[row].nonzero()[:, 0].tolist()
        given.sort(key=lambda label: -values[label])
        labels = {self.classes[k]: values[k].item() for k in given}
        return LabelSet(
            found.path, found.names, found.probabilities, True, labels=labels
        )

    def _read(self) -> list[LabelSet]:
        """Return the answers for the images that can be read."""
        return [answer for answer in self[:] if answer.names]

    def sections(self) -> list[tuple[str, list[Prediction]]]:
        """Return the images of each class, the least probable first."""
        groups: defaultdict[str, list[Any]] = defaultdict(list)
        for answer in self._read():
            for name in answer.labels or (NONE,):
                groups[name].append(answer)
        for name, answers in groups.items():
            answers.sort(key=lambda a: a.labels.get(name, a.probability))
        return sorted(groups.items(), key=lambda group: -len(group[1]))

    def summary(self) -> str:
        """Say how many images there are of each class, and of none."""
        read = self._read()
        counts = Counter(name for answer in read for name in answer.labels)
        ordered = counts.most_common()
        shown = [f'{printable(n)} {count:,}' for n, count in ordered[:SHOWN]]
        if len(ordered) > SHOWN:
            shown.append(f'{len(ordered) - SHOWN} more classes')
        without = sum(not answer.labels for answer in read)
        first = [f'{len(self):,} image{"" if len(self) == 1 else "s"}']
        first += [f'{without:,} with {NONE} of the classes'] if without else []
        unreadable = len(self.unreadable)
        first += [f'{unreadable:,} unreadable'] if unreadable else []
        return ', '.join(first) + ''.join(f'\n  {line}' for line in shown)

    def rows(self) -> Iterator[list[str]]:
        """Yield the header and a row per image, as texts.

        The labels have ``|`` between them, and so have their probabilities;
        then come the five most probable classes.
        """
        header = ['path', 'prediction', 'probability']
        for i in range(1, min(MOST, len(self.classes)) + 1):
            header += [f'most_probable_{i}', f'probability_{i}']
        yield header
        for answer in self[:]:
            if not answer.names:
                yield [answer.path, *[''] * (len(header) - 1)]
                continue
            row = [
                answer.path,
                SEPARATOR.join(answer.labels),
                SEPARATOR.join(f'{v:.4f}' for v in answer.labels.values()),
            ]
            for name, value in zip(
                answer.names, answer.probabilities, strict=True
            ):
                row += [name, f'{value:.4f}']
            yield row
