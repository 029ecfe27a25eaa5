"""A finished run as its files tell it, checked."""

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmclip.adapting.run_folder import RunFolder
from mmclip.datasets.image_table import SEPARATOR, read_rows
from mmclip.errors import CheckpointError, DataError
from mmclip.untrusted.rules import (
    FLAG,
    NAME,
    OBJECT,
    Check,
    is_finite,
    number,
    optional,
    take,
    whole,
)

MOST = 10**9
PERCENT: Check = (  # roundings of 0 and 100 included
    lambda v: is_finite(v) and -1e-6 < v < 100 + 1e-6,
    'a number from 0 to 100',
)
ANY = number(-1e299, 1e299)
TEXT: Check = (lambda v: isinstance(v, str), 'a string')


def _list(check: Check) -> Check:
    is_right, wanted = check
    return (
        lambda v: isinstance(v, list) and all(map(is_right, v)),
        f'a list, each {wanted}',
    )


OBJECTS = _list(OBJECT)
TEXTS = _list(TEXT)
COUNTS = _list(whole(MOST, 0))
RUN = dict(
    mmclip=NAME,
    command=TEXT,
    date=NAME,
    seconds=number(0, MOST),
    seed=whole(2**64, 0),
    model=TEXT,
    device=NAME,
    data=OBJECT,
    several_labels=FLAG,
    methods=OBJECTS,
    chosen=NAME,
    not_worse=TEXTS,
    calibration=optional(OBJECT),
    training=optional(OBJECT),
    map=optional(_list(_list(ANY))),
    suspects=OBJECTS,
    duplicates=OBJECTS,
)
DATA = dict(
    root=TEXT,
    made_split=TEXT,
    images=OBJECT,
    per_class=OBJECT,
    findings=OBJECTS,
)
METHOD = dict(
    name=NAME,
    title=NAME,
    source=TEXT,
    settings=OBJECT,
    cross_validation=optional(PERCENT),
    seconds=number(0, MOST),
    val=OBJECT,
    test=OBJECT,
)
RESULT = dict(
    accuracy=PERCENT,
    low=optional(PERCENT),
    high=optional(PERCENT),
    images=whole(MOST),
)
CALIBRATION = dict(
    temperature=number(0, 1e9),
    threshold=number(0, 1),
    error_before=PERCENT,
    error_after=PERCENT,
    answered=PERCENT,
    accuracy_of_answered=optional(PERCENT),
    bins=OBJECTS,
    bins_before=OBJECTS,
)
BIN = dict(
    low=number(0, 1),
    high=number(0, 1),
    images=whole(MOST, 0),
    confidence=optional(number(0, 1)),
    accuracy=optional(PERCENT),
)
TRAINING = dict(
    steps=OBJECTS,
    validation=OBJECTS,
    chance_loss=number(0, MOST),
    learned=FLAG,
    seconds=number(0, MOST),
    estimated_seconds=optional(number(0, MOST)),
    plan=OBJECT,
)
STEP = dict(step=whole(MOST, 0), loss=number(-MOST, MOST))
VALIDATION = dict(step=whole(MOST, 0), accuracy=PERCENT)
FINDING = dict(kind=NAME, text=TEXT, paths=TEXTS)
SUSPECT = dict(path=TEXT, label=TEXT, prediction=TEXT, probability=ANY)
DUPLICATE = dict(paths=TEXTS, splits=TEXTS, exact=FLAG, similarity=ANY)
# What a page can do without, and what it has instead.
DEFAULTS: dict[str, Any] = dict(
    command='',
    date='',
    seconds=None,
    seed=None,
    device='',
    several_labels=False,
    not_worse=[],
    calibration=None,
    training=None,
    map=None,
    suspects=[],
    duplicates=[],
    made_split='',
    per_class={},
    findings=[],
    source='',
    settings={},
    cross_validation=None,
    test=None,
    low=None,
    high=None,
    bins=[],
    bins_before=[],
    confidence=None,
    accuracy_of_answered=None,
    steps=[],
    validation=[],
    learned=True,
    estimated_seconds=None,
    plan={},
    paths=[],
    kind='',
    exact=False,
    similarity=None,
)


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
        """Return the path of an image from the working directory."""
        return os.path.join(self.root, path)


def read_run(folder: RunFolder) -> Run:
    """Read the files of a finished run.

    Raises:
        DataError: If the run is not finished, or a file is missing, damaged
            or from another version.
    """
    numbers = _check_numbers(folder.read_metrics(), folder.metrics)
    for path in (folder.classes, folder.predictions, folder.split):
        if not path.is_file():
            raise _wrong(f'{path} is missing', folder.path)
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
        raise _wrong(f'a table is damaged: {error}', folder.path) from None
    if any(None in image for image in images):
        raise _wrong(f'{folder.split} has a line that ends early', folder.path)
    if numbers['map'] and len(numbers['map']) != len(images):
        raise _wrong(
            f'{folder.metrics} has {len(numbers["map"])} places on the map '
            f'for the {len(images)} images of {folder.split.name}',
            folder.path,
        )
    run = Run(folder, numbers, classes, answers, images)
    if len(run.measured) != run.result['images']:
        raise _wrong(
            f'{folder.predictions} has {len(run.measured)} {run.split} images '
            f'for the {run.result["images"]} of {folder.metrics.name}',
            folder.path,
        )
    return run


def _check_numbers(content: Any, path: Path) -> dict[str, Any]:
    numbers = _take(content, RUN, path, '')
    data = numbers['data'] = _take(numbers['data'], DATA, path, 'data')
    _take_each(data, 'findings', FINDING, path, 'data.')
    _take_each(numbers, 'methods', METHOD, path)
    for i, method in enumerate(numbers['methods']):
        for split in ('val', 'test'):
            if method[split] is not None:
                where = f'methods[{i}].{split}'
                method[split] = _take(method[split], RESULT, path, where)
    if numbers['chosen'] not in [m['name'] for m in numbers['methods']]:
        raise _wrong(
            f'{path}: the chosen method {numbers["chosen"]!r} is not among '
            'its methods',
            path.parent,
        )
    for key, checks, lists in (
        ('calibration', CALIBRATION, {'bins': BIN, 'bins_before': BIN}),
        ('training', TRAINING, {'steps': STEP, 'validation': VALIDATION}),
    ):
        if numbers[key] is not None:
            numbers[key] = _take(numbers[key], checks, path, key)
            for name, each in lists.items():
                _take_each(numbers[key], name, each, path, f'{key}.')
    if any(len(place) != 2 for place in numbers['map'] or []):
        raise _wrong(f'{path}: map must have pairs of numbers', path.parent)
    _take_each(numbers, 'suspects', SUSPECT, path)
    _take_each(numbers, 'duplicates', DUPLICATE, path)
    for pair in numbers['duplicates']:
        if not len(pair['paths']) == len(pair['splits']) == 2:
            raise _wrong(f'{path}: duplicates must be pairs', path.parent)
    return numbers


def _take_each(
    values: dict[str, Any],
    key: str,
    checks: Mapping[str, Check],
    path: Path,
    prefix: str = '',
) -> None:
    values[key] = [
        _take(value, checks, path, f'{prefix}{key}[{i}]')
        for i, value in enumerate(values[key])
    ]


def _take(
    values: Any, checks: Mapping[str, Check], path: Path, where: str
) -> dict[str, Any]:
    """Return the known values of an object, with defaults for others."""
    place = f'{path}: {where}' if where else str(path)
    try:
        taken = take(values, checks, place)
    except CheckpointError as error:
        raise _wrong(str(error).rstrip('.'), path.parent) from None
    for key in checks:
        if key not in taken:
            if key not in DEFAULTS:
                raise _wrong(f'{place} lacks {key}', path.parent)
            taken[key] = DEFAULTS[key]
    return taken


def _read_answers(
    path: Path, several_labels: bool, classes: set[str]
) -> list[Answer]:
    answers = []
    with open(path, encoding='utf-8-sig', newline='') as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        needed = {'path', 'split', 'label', 'prediction', 'probability'}
        if missing := needed - set(columns):
            raise _wrong(
                f'{path} lacks the column {", ".join(sorted(missing))}',
                path.parent,
            )
        more = range(2, sum(c.startswith('prediction') for c in columns) + 1)
        suffixes = ['', *(f'_{i}' for i in more)]
        for row in reader:
            label = row['label'] or ''
            labels = label.split(SEPARATOR) if several_labels else [label]
            names = [row.get(f'prediction{s}') for s in suffixes]
            try:
                answer = Answer(
                    row['path'],
                    row['split'],
                    tuple(name for name in labels if name),
                    tuple(name for name in names if name),
                    tuple(
                        float(row[f'probability{s}'])
                        for s, name in zip(suffixes, names, strict=True)
                        if name
                    ),
                    row.get('sure') != 'no',
                )
            except (KeyError, TypeError, ValueError):
                answer = None
            if answer is None or not (
                answer.names
                and (answer.labels or several_labels)
                and classes.issuperset(answer.names)
                and classes.issuperset(answer.labels)
                and all(0 <= p <= 1 for p in answer.probabilities)
            ):
                raise _wrong(
                    f'{path}: line {reader.line_num} is not an answer with '
                    'classes of classes.txt and probabilities',
                    path.parent,
                )
            answers.append(answer)
    return answers


def _wrong(what: str, folder: Path) -> DataError:
    return DataError(
        f'{what}. {folder} is damaged, or from another version of mmclip; '
        'make the run again with: mmclip adapt'
    )
