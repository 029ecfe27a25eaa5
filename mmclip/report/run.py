"""A finished run as its files tell it, checked."""

import csv
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.datasets.table_rows import SEPARATOR, read_rows
from mmclip.report.metrics_file import checked_metrics, wrong
from mmclip.untrusted.rules import NAME


@dataclass(frozen=True)
class Answer:
    """What a classifier said of an image.

    Args:
        path (str): The image, from the root of the data.
        split (str): ``'val'`` or ``'test'``.
        labels (tuple[str, ...]): Its true classes: one, unless images of the
            run may have several.
        names (tuple[str, ...]): The most probable classes, best first.
        probabilities (tuple[float, ...]): Theirs.
        sure (bool): Whether the first is at or above the threshold.
    """

    path: str
    split: str
    labels: tuple[str, ...]
    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    sure: bool

    @property
    def right(self) -> bool:
        """Whether the most probable class is a true one."""
        return self.names[0] in self.labels

    @property
    def probability(self) -> float:
        """Of the most probable class."""
        return self.probabilities[0]

    @property
    def said(self) -> list[tuple[str, float]]:
        """What was answered, and how probable it is."""
        return [(self.names[0], self.probability)]


@dataclass(frozen=True)
class LabelSet(Answer):
    """The answer for an image that may have several labels.

    ``names`` are the labels that it got, of which there may be none.
    """

    @property
    def right(self) -> bool:
        """Whether it got exactly its labels."""
        return set(self.names) == set(self.labels)

    @property
    def probability(self) -> float:
        """Of the most probable label; 0 without any."""
        return max(self.probabilities, default=0.0)

    @property
    def said(self) -> list[tuple[str, float]]:
        """What was answered, and how probable it is."""
        return list(zip(self.names, self.probabilities, strict=True))


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder (RunFolder): Where it is.
        numbers (dict): What is in its ``metrics.json``.
        classes (tuple[str, ...]): Class names.
        answers (tuple[Answer, ...]): For the validation and test images.
        images (tuple[tuple[str, str, str], ...]): Path, label and split of
            all images.
    """

    folder: RunFolder
    numbers: dict[str, Any]
    classes: tuple[str, ...]
    answers: tuple[Answer, ...]
    images: tuple[tuple[str, str, str], ...]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.path.resolve().name

    @property
    def root(self) -> str:
        """The folder that the paths of images are relative to."""
        return self.numbers['data']['root']

    @property
    def several_labels(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.numbers['several_labels']

    @property
    def chosen(self) -> dict[str, Any]:
        """The numbers of the chosen method."""
        methods = self.numbers['methods']
        return next(m for m in methods if m['name'] == self.numbers['chosen'])

    @property
    def split(self) -> str:
        """The split that the page is about: the test set if there is one."""
        return 'test' if self.chosen['test'] else 'val'

    @property
    def result(self) -> dict[str, Any]:
        """The accuracy of the chosen method on that split."""
        return self.chosen[self.split]

    @cached_property
    def measured(self) -> tuple[Answer, ...]:
        """The answers for that split."""
        return tuple(a for a in self.answers if a.split == self.split)

    def full_path(self, path: str) -> str:
        """Return the path of an image where the run had it."""
        return os.path.join(self.root, path)


def read_run(folder: RunFolder) -> Run:
    """Read the files of a finished run.

    Raises:
        DataError: If the run is not finished, or a file is missing, damaged
            or from another version.
    """
    numbers = checked_metrics(folder)
    for path in (folder.classes, folder.predictions, folder.split):
        if not path.is_file():
            raise wrong(f'{path} is missing', folder.path)
    try:
        names = folder.classes.read_text('utf-8').removesuffix('\n')
        classes = tuple(names.split('\n'))
        images = tuple(read_rows(str(folder.split)))
        answers = tuple(
            _read_answers(
                folder.predictions, numbers['several_labels'], set(classes)
            )
        )
    except (UnicodeDecodeError, csv.Error) as error:
        raise wrong(f'a table is damaged: {error}', folder.path) from None
    if not all(map(NAME[0], classes)):
        raise wrong(
            f'{folder.classes} has a name of more than 500 characters',
            folder.path,
        )
    if numbers['map'] and len(numbers['map']) != len(images):
        raise wrong(
            f'{folder.metrics} has {len(numbers["map"])} places on the map '
            f'for the {len(images)} images of {folder.split.name}',
            folder.path,
        )
    run = Run(folder, numbers, classes, answers, images)
    if run.several_labels and not (
        len(numbers['thresholds'])
        == len(numbers['per_class'][run.split])
        == len(classes)
    ):
        raise wrong(
            f'{folder.metrics} must have thresholds and per_class of the '
            f'{len(classes)} classes',
            folder.path,
        )
    if len(run.measured) != run.result['images']:
        raise wrong(
            f'{folder.predictions} has {len(run.measured)} {run.split} images '
            f'for the {run.result["images"]} of {folder.metrics.name}',
            folder.path,
        )
    return run


def _read_answers(
    path: Path, several_labels: bool, classes: set[str]
) -> list[Answer]:
    answers = []
    with open(path, encoding='utf-8-sig', newline='') as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        needed = {'path', 'split', 'label', 'prediction', 'probability'}
        if missing := needed - set(columns):
            raise wrong(
                f'{path} lacks the column {", ".join(sorted(missing))}',
                path.parent,
            )
        more = sum(c.startswith('prediction') for c in columns)
        for row in reader:
            try:
                answer = (
                    _label_set(row) if several_labels else _answer(row, more)
                )
            except (KeyError, TypeError, ValueError):
                answer = None
            if answer is None or not (
                (several_labels or (answer.names and answer.labels))
                and classes.issuperset(answer.names)
                and classes.issuperset(answer.labels)
                and all(0 <= p <= 1 for p in answer.probabilities)
            ):
                raise wrong(
                    f'{path}: line {reader.line_num} is not an answer with '
                    'classes of classes.txt and probabilities',
                    path.parent,
                )
            answers.append(answer)
    return answers


def _answer(row: dict[str, str], most: int) -> Answer:
    """Read the answer for an image with one label.

    Args:
        row (dict): Of ``predictions.csv``.
        most (int): How many classes it may have, the most probable first.
    """
    suffixes = ['', *(f'_{i}' for i in range(2, most + 1))]
    named = [s for s in suffixes if row[f'prediction{s}']]
    return Answer(
        row['path'],
        row['split'],
        (row['label'],) if row['label'] else (),
        tuple(row[f'prediction{s}'] for s in named),
        tuple(float(row[f'probability{s}']) for s in named),
        row.get('sure') != 'no',
    )


def _label_set(row: dict[str, str]) -> LabelSet:
    """Read the answer for an image that may have several labels."""
    label, names, values = (
        row[key].split(SEPARATOR) if row[key] else []
        for key in ('label', 'prediction', 'probability')
    )
    if len(names) != len(values):
        raise ValueError('as many probabilities as names are needed')
    return LabelSet(
        row['path'],
        row['split'],
        tuple(label),
        tuple(names),
        tuple(map(float, values)),
        True,
    )
