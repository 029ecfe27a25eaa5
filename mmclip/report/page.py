"""The page of a run."""

import functools
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.datasets.image_table import SEPARATOR
from mmclip.pages.environment import environment
from mmclip.report.comparison import compare
from mmclip.report.measures import Confusion, class_results, confusion
from mmclip.report.pictures import curve, image_map, reliability
from mmclip.report.run import Answer, Run, read_run
from mmclip.report.several_labels import describe_labels
from mmclip.report.thumbnails import Thumbnails
from mmclip.report.usage import usage

IN_MATRIX = 30  # classes; of more, pairs are listed
CARDS = 15  # images of a kind
IN_CELL = 8  # images of a cell of the matrix
PAIRS = 30  # confused pairs
MOST_CLASSES = 600  # rows of a table; predictions.csv has the rest
MOST_POINTS = 3000  # on the map
MOST_PATHS = 50  # under a finding
SPLITS = {'train': 'training', 'val': 'validation', 'test': 'test'}


def write_report(
    folder: RunFolder,
    other: RunFolder | None = None,
    out: Path | None = None,
    *,
    root: str | Path | None = None,
) -> Path:
    """Write the page of a run, or of two side by side, as one file.

    Args:
        folder (RunFolder): A finished run.
        other (RunFolder | None): Another one, to compare with it. Defaults to
            None.
        out (Path | None): The file. Defaults to ``report.html`` in the folder
            of the run, or ``comparison.html`` for two runs.
        root (str | Path | None): The folder of the images: the page shows
            pictures of no others, whatever files the run names. Defaults to
            None: no pictures.

    Returns:
        Path: The file.

    Raises:
        DataError: If a run is not finished, or damaged, or two cannot be
            compared.
    """
    run = read_run(folder)
    thumbnails = Thumbnails(root)
    if other is None:
        out = out or folder.report
        text = _render('run.html', **describe(run, thumbnails))
    else:
        out = out or folder.report.with_name('comparison.html')
        second = read_run(other)
        text = _render(
            'comparison.html', **compare(run, second, thumbnails, CARDS)
        )
    with atomic_file(out) as temporary:
        # Strangers' JSON can hold what UTF-8 cannot.
        temporary.write_bytes(text.encode('utf-8', 'replace'))
    return out


def describe(run: Run, thumbnails: Thumbnails) -> dict[str, Any]:
    """Collect what the page of a run shows."""
    numbers = run.numbers
    by_row = sorted(run.measured, key=lambda a: -a.probability)
    mistakes = [a for a in by_row if not a.right]
    counts = labels = None
    # In the order of their worth, since room for pictures may run out.
    if run.several_labels:
        labels = describe_labels(run, thumbnails, CARDS)
        first = [card['answer'] for card in labels['mistakes']]
        mistakes, by_row = [], []
    else:
        counts = confusion(by_row)
        first = mistakes[:CARDS]
    places = {a.path: f'image-{i}' for i, a in enumerate(first)}
    shown = dict(
        mistakes=_cards(run, mistakes[:CARDS], thumbnails),
        least_sure=_cards(run, by_row[: -CARDS - 1 : -1], thumbnails),
        suspects=_suspects(run, thumbnails),
        duplicates=_duplicates(run, thumbnails),
        cells=_cells(run, counts or {}, by_row, thumbnails),
    )
    return dict(
        run=run,
        numbers=numbers,
        chance=run.result['chance']
        if run.several_labels
        else 100 / len(run.classes),
        methods=sorted(
            numbers['methods'], key=lambda m: -m[run.split]['accuracy']
        ),
        curves=_curves(run),
        classes=_classes(run, counts),
        labels=labels,
        cell_of={(c['truth'], c['said']): c for c in shown['cells']},
        across=sum(
            pair['splits'][0] != pair['splits'][1]
            for pair in numbers['duplicates']
        ),
        wrong=len(mistakes),
        places=places,
        reliability=_reliability(numbers['calibration']),
        map=_map(run, places),
        usage=usage(run),
        thumbnails=thumbnails,
        limits=dict(matrix=IN_MATRIX, classes=MOST_CLASSES, paths=MOST_PATHS),
        **shown,
    )


def _render(name: str, **values: Any) -> str:
    return _environment().get_template(name).render(**values)


@functools.cache
def _environment() -> Environment:
    return environment(
        Path(__file__).parent / 'templates',
        percent=_percent,
        probability=lambda v: f'{100 * v:.1f}\N{NO-BREAK SPACE}%',
        count=lambda v: f'{v:,}',
        images=lambda v: f'{v:,} image' + ('s' if v != 1 else ''),
        split=lambda v: SPLITS.get(v, v),
        duration=_duration,
        # Pages are shared, and a path tells who made them.
        name=lambda path: os.path.basename(path.rstrip('/')) or path,
        quoted=shlex.quote,
        shortened=_shortened,
    )


def _percent(value: float | None) -> str:
    if value is None:
        return '\N{EN DASH}'
    return f'{abs(value) if abs(value) < 0.05 else value:.1f}'


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f'{seconds:.3g} s'
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min'


def _shortened(path: str, most: int = 44) -> str:
    """Leave out the middle of a long path: its name is what is looked for."""
    if len(path) <= most:
        return path
    begin = most // 3
    return f'{path[:begin]}\N{HORIZONTAL ELLIPSIS}{path[begin + 1 - most :]}'


def _cards(
    run: Run, answers: Iterable[Answer], thumbnails: Thumbnails
) -> list[dict[str, Any]]:
    return [
        dict(
            thumbnail=thumbnails.of(run.root, answer.path),
            answer=answer,
            top=list(zip(answer.names, answer.probabilities, strict=True))[:3],
        )
        for answer in answers
    ]


def _suspects(run: Run, thumbnails: Thumbnails) -> list[dict[str, Any]]:
    return [
        dict(suspect, thumbnail=thumbnails.of(run.root, suspect['path']))
        for suspect in run.numbers['suspects'][:CARDS]
    ]


def _duplicates(run: Run, thumbnails: Thumbnails) -> list[dict[str, Any]]:
    """Return pairs with their pictures, those across splits first."""
    pairs = sorted(
        run.numbers['duplicates'],
        key=lambda p: (p['splits'][0] == p['splits'][1], not p['exact']),
    )
    return [
        dict(
            pair,
            same_split=pair['splits'][0] == pair['splits'][1],
            pictures=[
                (thumbnails.of(run.root, path), path, split)
                for path, split in zip(
                    pair['paths'], pair['splits'], strict=True
                )
            ],
        )
        for pair in pairs[:CARDS]
    ]


def _cells(
    run: Run,
    counts: Confusion | dict[tuple[str, str], int],
    answers: Sequence[Answer],
    thumbnails: Thumbnails,
) -> list[dict[str, Any]]:
    """Return the cells of the matrix that have images, the errors first.

    Of many classes, only the pairs that are confused the most are returned,
    and of equally many, those with the most probable answers.
    """
    few = len(run.classes) <= IN_MATRIX
    pairs = sorted(counts, key=lambda p: (p[0] == p[1], -counts[p]))
    if not few:
        pairs = [pair for pair in pairs if pair[0] != pair[1]][:PAIRS]
    images: dict[tuple[str, str], list[Answer]] = {p: [] for p in pairs}
    for answer in answers:
        if (
            answer.labels[:1]
            and (pair := (answer.labels[0], answer.names[0])) in images
        ):
            images[pair].append(answer)
    totals: dict[str, int] = {}
    for (truth, _), number in counts.items():
        totals[truth] = totals.get(truth, 0) + number
    number_of = {name: i for i, name in enumerate(run.classes)}
    cells = []
    for pair in pairs:
        found = images[pair]
        is_right = pair[0] == pair[1]
        # Of right answers, the least sure tell the most.
        some = found[:-5:-1] if is_right else found[:IN_CELL]
        cards = _cards(run, some, thumbnails)
        cells.append(
            dict(
                id=f'cell-{number_of[pair[0]]}-{number_of[pair[1]]}',
                truth=pair[0],
                said=pair[1],
                images=len(found),
                share=len(found) / totals[pair[0]],
                cards=[c for c in cards if c['thumbnail'] is not None],
            )
        )
    return cells


def _classes(run: Run, counts: Confusion | None) -> dict[str, Any] | None:
    """Return precision, recall and F1 of each class, worst first."""
    if counts is None:
        return None
    results = class_results(counts, run.classes)
    trained = run.numbers['data']['per_class']['train']
    if len(trained) != len(results):
        trained = [None] * len(results)
    measured = [r.f1 for r in results if r.f1 is not None]
    rows = sorted(
        zip(results, trained, strict=True),
        key=lambda row: (row[0].f1 is None, row[0].f1 or 0, row[0].name),
    )
    return dict(rows=rows, mean=sum(measured) / len(measured))


def _curves(run: Run) -> list[Any]:
    training = run.numbers['training']
    if training is None:
        return []
    curves = []
    if training['steps']:
        curves.append(
            curve(
                [step['step'] for step in training['steps']],
                [step['loss'] for step in training['steps']],
                training['chance_loss'],
                ('step', 'training loss'),
                'Training loss over the steps, and the loss of guesses.',
            )
        )
    if training['validation']:
        curves.append(
            curve(
                [step['step'] for step in training['validation']],
                [step['accuracy'] for step in training['validation']],
                100 / len(run.classes),
                ('step', 'validation accuracy (%)'),
                'Validation accuracy over the steps, and that of guesses.',
            )
        )
    return curves


def _reliability(calibration: dict[str, Any] | None) -> Any:
    if calibration is None or not calibration['bins']:
        return None
    return reliability(calibration['bins'], calibration['bins_before'])


def _map(run: Run, places: dict[str, str]) -> dict[str, Any] | None:
    """Draw the map, of as many images as it can hold."""
    points = run.numbers['map']
    if not points:
        return None
    wrong = {answer.path for answer in run.answers if not answer.right}
    rows = np.arange(len(points))
    if len(rows) > MOST_POINTS:
        rows = np.random.default_rng(0).choice(rows, MOST_POINTS, False)
    images = [run.images[row] for row in rows]
    kinds = run.classes
    if run.several_labels:
        images = [
            (path, label.replace(SEPARATOR, ', ') or 'none', split)
            for path, label, split in images
        ]
        kinds = tuple(sorted({label for _, label, _ in images}))
    return dict(
        drawing=image_map(
            [points[row] for row in rows],
            [label for _, label, _ in images],
            [path in wrong for path, _, _ in images],
            kinds,
            [f'#{places[p]}' if p in places else '' for p, _, _ in images],
        ),
        shown=len(rows),
        images=len(points),
    )
