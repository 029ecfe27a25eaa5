"""A finished run as its files tell it, checked."""

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.datasets.table_rows import SEPARATOR, read_rows
from mmclip.errors import CheckpointError, DataError
from mmclip.untrusted.rules import (
    FLAG,
    NAME,
    OBJECT,
    Check,
    choice,
    either,
    is_finite,
    number,
    optional,
    several,
    take,
    whole,
)

MOST = 10**9
PERCENT: Check = (  # roundings of 0 and 100 included
    lambda v: is_finite(v) and -1e-6 < v < 100 + 1e-6,
    'a number from 0 to 100',
)
SECONDS = number(0, MOST)
SHARE = number(0, 1)


def _text(most: int) -> Check:
    return (
        lambda v: isinstance(v, str) and len(v) <= most,
        f'a string of at most {most:,} characters',
    )


def _list(check: Check) -> Check:
    is_right, wanted = check
    return (
        lambda v: isinstance(v, list) and all(map(is_right, v)),
        f'a list, each {wanted}',
    )


def _named(check: Check, most: int) -> Check:
    """Allow objects with at most ``most`` names and such values."""
    is_right, wanted = check
    return (
        lambda v: (
            OBJECT[0](v)
            and len(v) <= most
            and all(map(NAME[0], v))
            and all(map(is_right, v.values()))
        ),
        f'an object of at most {most:,}, each {wanted}',
    )


OBJECTS = _list(OBJECT)
# Of which a page shows each.
FEW: Check = (
    lambda v: OBJECTS[0](v) and len(v) <= 200,
    'a list of at most 200 objects',
)
TEXT = _text(10_000)
TEXTS = _list(TEXT)
SETTINGS = _named(
    either(optional(NAME), either(FLAG, number(-1e300, 1e300))), 50
)
COUNT = whole(MOST, 0)
# The known values of an object: the check of each, and what stands for it if
# it is missing; without that it must be there.
Rules = Mapping[str, tuple[Check] | tuple[Check, Any]]
RUN: Rules = dict(
    mmclip=(NAME,),
    command=(_text(200_000), ''),  # which may name many folders
    date=(NAME, ''),
    seconds=(SECONDS, None),
    seed=(whole(2**64, 0), None),
    model=(TEXT,),
    device=(NAME, ''),
    data=(OBJECT,),
    several_labels=(FLAG, False),
    methods=(FEW,),
    chosen=(NAME,),
    chosen_by=(
        choice('accuracy', 'mean_average_precision', 'user'),
        'accuracy',
    ),
    not_worse=(TEXTS, []),
    calibration=(optional(OBJECT), None),
    training=(optional(OBJECT), None),
    map=(optional(_list(several(number(-1e9, 1e9), 2))), None),
    suspects=(OBJECTS, []),
    duplicates=(OBJECTS, []),
    # Of images with several labels:
    thresholds=(OBJECTS, []),
    per_class=(OBJECT, {}),
    mistakes=(FEW, []),
)
DATA: Rules = dict(
    root=(TEXT,),
    made_split=(TEXT, ''),
    images=(OBJECT, {}),
    per_class=(OBJECT, {}),
    findings=(FEW, []),
)
IMAGES: Rules = dict.fromkeys(('train', 'val', 'test'), (COUNT, 0))
PER_CLASS: Rules = dict.fromkeys(IMAGES, (_list(COUNT), []))
FINDING: Rules = dict(text=(TEXT,), paths=(TEXTS, []))
METHOD: Rules = dict(
    name=(NAME,),
    title=(NAME,),
    source=(TEXT, ''),
    settings=(SETTINGS, {}),
    cross_validation=(optional(PERCENT), None),
    seconds=(SECONDS,),
    val=(OBJECT,),
    test=(optional(OBJECT), None),
    also=(_named(OBJECT, 50), {}),
)
RESULT: Rules = dict(
    accuracy=(PERCENT,),
    low=(optional(PERCENT), None),
    high=(optional(PERCENT), None),
    chance=(optional(PERCENT), None),
    images=(whole(MOST),),
)
CALIBRATION: Rules = dict(
    temperature=(number(0, 1e9),),
    threshold=(SHARE,),
    too_few=(FLAG, False),
    split=(choice('val', 'test'), 'val'),
    error_before=(PERCENT,),
    error_after=(PERCENT,),
    answered=(PERCENT,),
    accuracy_of_answered=(optional(PERCENT), None),
    bins=(FEW, []),
    bins_before=(FEW, []),
)
BIN: Rules = dict(
    images=(COUNT,),
    confidence=(optional(SHARE), None),
    accuracy=(optional(PERCENT), None),
)
TRAINING: Rules = dict(
    steps=(OBJECTS, []),
    validation=(OBJECTS, []),
    chance_loss=(SECONDS,),
    learned=(FLAG, True),
    seconds=(SECONDS,),
    estimated_seconds=(optional(SECONDS), None),
    plan=(SETTINGS, {}),
    fitted=(TEXT, ''),
)
STEP: Rules = dict(step=(COUNT,), loss=(number(-MOST, MOST),))
VALIDATION: Rules = dict(step=(COUNT,), accuracy=(PERCENT,))
SUSPECT: Rules = dict(
    path=(TEXT,), label=(TEXT,), prediction=(TEXT,), probability=(SHARE,)
)
DUPLICATE: Rules = dict(
    paths=(several(TEXT, 2),),
    splits=(several(TEXT, 2),),
    exact=(FLAG, False),
    similarity=(optional(number(-2, 2)), None),
)
PER_LABEL: Rules = dict.fromkeys(('val', 'test'), (OBJECTS, []))
THRESHOLD: Rules = dict(threshold=(SHARE,), own=(FLAG, True))
LABEL: Rules = dict(images=(COUNT,)) | dict.fromkeys(
    ('average_precision', 'precision', 'recall', 'f1'),
    (optional(PERCENT), None),
)
MISTAKE: Rules = dict(
    path=(TEXT,), label=(TEXT,), given=(FLAG,), probability=(SHARE,)
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
    if not all(map(NAME[0], classes)):
        raise _wrong(
            f'{folder.classes} has a name of more than 500 characters',
            folder.path,
        )
    if numbers['map'] and len(numbers['map']) != len(images):
        raise _wrong(
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
        raise _wrong(
            f'{folder.metrics} must have thresholds and per_class of the '
            f'{len(classes)} classes',
            folder.path,
        )
    if len(run.measured) != run.result['images']:
        raise _wrong(
            f'{folder.predictions} has {len(run.measured)} {run.split} images '
            f'for the {run.result["images"]} of {folder.metrics.name}',
            folder.path,
        )
    return run


def _check_numbers(content: Any, path: Path) -> dict[str, Any]:
    def check(values: Any, rules: Rules, where: str) -> dict[str, Any]:
        return _take(values, rules, f'{path}: {where}', path.parent)

    def check_each(
        values: dict[str, Any], key: str, rules: Rules, where: str = ''
    ) -> None:
        values[key] = [
            check(value, rules, f'{where}{key}[{i}]')
            for i, value in enumerate(values[key])
        ]

    numbers = _take(content, RUN, str(path), path.parent)
    data = numbers['data'] = check(numbers['data'], DATA, 'data')
    data['images'] = check(data['images'], IMAGES, 'data.images')
    data['per_class'] = check(data['per_class'], PER_CLASS, 'data.per_class')
    check_each(data, 'findings', FINDING, 'data.')
    check_each(numbers, 'suspects', SUSPECT)
    check_each(numbers, 'duplicates', DUPLICATE)
    check_each(numbers, 'methods', METHOD)
    for i, method in enumerate(numbers['methods']):
        for split in ('val', 'test'):
            if method[split] is not None:
                where = f'methods[{i}].{split}'
                if 'mean_average_precision' in method[split]:
                    precision = method[split]['mean_average_precision']
                    method[split] = dict(method[split], accuracy=precision)
                method[split] = _result(check(method[split], RESULT, where))
        method['also'] = {
            name: _result(check(also, RESULT, f'methods[{i}].also: {name}'))
            for name, also in method['also'].items()
        }
    check_each(numbers, 'thresholds', THRESHOLD)
    check_each(numbers, 'mistakes', MISTAKE)
    by_split = check(numbers['per_class'], PER_LABEL, 'per_class')
    for split in by_split:
        check_each(by_split, split, LABEL, 'per_class.')
    numbers['per_class'] = by_split
    chosen = [m for m in numbers['methods'] if m['name'] == numbers['chosen']]
    if not chosen:
        raise _wrong(
            f'{path}: the chosen method {numbers["chosen"]!r} is not among '
            'its methods',
            path.parent,
        )
    if any(
        bool(m['test']) != bool(chosen[0]['test']) for m in numbers['methods']
    ):
        raise _wrong(f'{path}: some methods lack test', path.parent)
    if numbers['calibration'] is not None:
        calibration = check(numbers['calibration'], CALIBRATION, 'calibration')
        numbers['calibration'] = calibration
        for key in ('bins', 'bins_before'):
            check_each(calibration, key, BIN, 'calibration.')
            calibration[key] = [
                b
                for b in calibration[key]
                if b['images'] and None not in b.values()
            ]
    if numbers['training'] is not None:
        training = check(numbers['training'], TRAINING, 'training')
        numbers['training'] = training
        check_each(training, 'steps', STEP, 'training.')
        check_each(training, 'validation', VALIDATION, 'training.')
    return numbers


def _result(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out an interval of which an end is missing."""
    return values if values['high'] is not None else values | dict(low=None)


def _take(
    values: Any, rules: Rules, place: str, folder: Path
) -> dict[str, Any]:
    """Return the known values of an object, with defaults for others."""
    try:
        taken = take(
            values, {key: rule[0] for key, rule in rules.items()}, place
        )
    except CheckpointError as error:
        raise _wrong(str(error).rstrip('.'), folder) from None
    for key, rule in rules.items():
        if key not in taken:
            if len(rule) == 1:
                raise _wrong(f'{place} lacks {key}', folder)
            taken[key] = rule[1]
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
                raise _wrong(
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


def _wrong(what: str, folder: Path) -> DataError:
    return DataError(
        f'{what}. {folder} is damaged, or from another version of mmclip; '
        'make the run again with: mmclip adapt'
    )
