"""Two runs side by side."""

import os
from collections.abc import Sequence
from typing import Any

import torch

from mmclip.adapting.choice import differ
from mmclip.errors import DataError
from mmclip.report.measures import class_results, confusion
from mmclip.report.run import Answer, Run
from mmclip.report.thumbnails import Thumbnails


def compare(
    one: Run, other: Run, thumbnails: Thumbnails, most: int
) -> dict[str, Any]:
    """Collect what a page of two runs shows.

    Args:
        one (Run): The first.
        other (Run): The second.
        thumbnails (Thumbnails): Makes the pictures.
        most (int): How many images are shown of a kind.

    Raises:
        DataError: If they answer different questions.
    """
    runs = (one, other)
    places = f'{one.folder.path} and {other.folder.path}'
    if one.several_labels != other.several_labels:
        raise DataError(
            f'{places} cannot be compared: the images of one of them have '
            'several labels.'
        )
    if not set(one.classes).intersection(other.classes):
        raise DataError(
            f'{places} cannot be compared: they have no class in common.'
        )
    answers = [_by_place(run) for run in runs]
    shared = [place for place in answers[0] if place in answers[1]]
    # The first has it right, the second, or neither, but they differ.
    kinds: dict[str, list[dict[str, Any]]] = dict(first=[], second=[], none=[])
    for place in shared:
        first, second = (found[place] for found in answers)
        if first.right != second.right:
            kind = 'first' if first.right else 'second'
        elif _labels(first) != _labels(second) and not first.right:
            kind = 'none'
        else:
            continue
        kinds[kind].append(dict(answers=(first, second)))
    for images in kinds.values():
        images.sort(key=lambda i: -max(a.probability for a in i['answers']))
        for image in images[:most]:
            path = image['answers'][0].path
            image['thumbnail'] = thumbnails.of(one.root, path)
    right = [
        torch.tensor([found[p].right for p in shared], dtype=torch.bool)
        for found in answers
    ]
    only = len(kinds['first']), len(kinds['second'])
    return dict(
        runs=runs,
        names=_names(one, other),
        shared=len(shared),
        only=only,
        difference=(
            100 * (only[1] - only[0]) / len(shared) if shared else None
        ),
        is_clear=differ(*right),
        methods=_methods(one, other),
        classes=_classes(
            runs, [[found[place] for place in shared] for found in answers]
        ),
        kinds={name: images[:most] for name, images in kinds.items()},
        counts={name: len(images) for name, images in kinds.items()},
        thumbnails=thumbnails,
    )


def _by_place(run: Run) -> dict[str, Answer]:
    return {
        os.path.normpath(run.full_path(answer.path)): answer
        for answer in run.measured
    }


def _labels(answer: Answer) -> set[str]:
    return {name for name, _ in answer.said}


def _names(one: Run, other: Run) -> tuple[str, str]:
    """Return short names that differ."""
    if one.name != other.name:
        return one.name, other.name
    return str(one.folder.path), str(other.folder.path)


def _methods(one: Run, other: Run) -> list[dict[str, Any]]:
    """Return the methods of both, with a result or None for each run."""
    rows: dict[str, dict[str, Any]] = {}
    for i, run in enumerate((one, other)):
        for method in run.numbers['methods']:
            row = rows.setdefault(
                method['name'],
                dict(title=method['title'], results=[None, None], chosen=[]),
            )
            row['results'][i] = method[run.split]
            if method is run.chosen:
                row['chosen'].append(i)
    return sorted(
        rows.values(),
        key=lambda row: -max(r['accuracy'] for r in row['results'] if r),
    )


def _classes(
    runs: Sequence[Run], answers: Sequence[Sequence[Answer]]
) -> list[dict[str, Any]]:
    """Return the recall of each class in both, the largest changes first.

    Args:
        runs (Sequence[Run]): The two runs.
        answers (Sequence[Sequence[Answer]]): Theirs for the same images.
    """
    if any(run.several_labels for run in runs):
        return []
    results = [
        {
            result.name: result
            for result in class_results(confusion(found), run.classes)
        }
        for run, found in zip(runs, answers, strict=True)
    ]
    rows = [
        dict(
            name=name,
            images=result.images,
            recalls=(result.recall, other.recall),
            change=other.recall - result.recall,
        )
        for name, result in results[0].items()
        if (other := results[1].get(name))
        and result.recall is not None
        and other.recall is not None
    ]
    return sorted(rows, key=lambda row: -abs(row['change']))
