"""What ``metrics.json`` of a run may say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmclip.adapting.run_files.run_folder import RunFolder
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
MOST_NAMES = 50  # of an object
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


def _named(check: Check) -> Check:
    """Allow objects of a few names and such values."""
    is_right, wanted = check
    return (
        lambda v: (
            OBJECT[0](v)
            and len(v) <= MOST_NAMES
            and all(map(NAME[0], v))
            and all(map(is_right, v.values()))
        ),
        f'an object of at most {MOST_NAMES}, each {wanted}',
    )


OBJECTS = _list(OBJECT)
# Of which a page shows each.
FEW: Check = (
    lambda v: OBJECTS[0](v) and len(v) <= 200,
    'a list of at most 200 objects',
)
TEXT = _text(10_000)
TEXTS = _list(TEXT)
SETTINGS = _named(either(optional(NAME), either(FLAG, number(-1e300, 1e300))))
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
    also=(_named(OBJECT), {}),
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


def checked_metrics(folder: RunFolder) -> dict[str, Any]:
    """Read the known values, with defaults for those that may be missing.

    Raises:
        DataError: If the run is not finished, or a value is missing or wrong.
    """
    content, path = folder.read_metrics(), folder.metrics

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
        raise wrong(
            f'{path}: the chosen method {numbers["chosen"]!r} is not among '
            'its methods',
            path.parent,
        )
    if any(
        bool(m['test']) != bool(chosen[0]['test']) for m in numbers['methods']
    ):
        raise wrong(f'{path}: some methods lack test', path.parent)
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
        raise wrong(str(error).rstrip('.'), folder) from None
    for key, rule in rules.items():
        if key not in taken:
            if len(rule) == 1:
                raise wrong(f'{place} lacks {key}', folder)
            taken[key] = rule[1]
    return taken


def wrong(what: str, folder: Path) -> DataError:
    """Return what to say of a damaged run."""
    return DataError(
        f'{what}. {folder} is damaged, or from another version of mmclip; '
        'make the run again with: mmclip adapt'
    )
