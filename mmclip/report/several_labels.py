"""What the page shows of a run whose images may have several labels."""

from typing import Any

import numpy as np

from mmclip.report.run import Run
from mmclip.report.thumbnails import Thumbnails


def describe_labels(
    run: Run, thumbnails: Thumbnails, most: int
) -> dict[str, Any]:
    """Collect the results of each class, and the worst mistakes.

    Args:
        run (Run): Whose images may have several labels.
        thumbnails (Thumbnails): Makes the pictures.
        most (int): How many images are shown.
    """
    numbers = run.numbers
    results = numbers['per_class'][run.split]
    trained = numbers['data']['per_class']['train']
    if len(trained) != len(results):
        trained = [None] * len(results)
    rows = [
        dict(result, name=name, trained=images, limit=threshold)
        for name, result, images, threshold in zip(
            run.classes, results, trained, numbers['thresholds'], strict=True
        )
    ]
    rows.sort(
        key=lambda row: (
            row['average_precision'] is None,
            row['average_precision'],
            row['name'],
        )
    )
    f1 = [row['f1'] for row in rows if row['f1'] is not None]
    return dict(
        classes=rows,
        lacking=[r['name'] for r in rows if r['average_precision'] is None],
        f1=float(np.mean(f1)) if f1 else None,
        shared=any(not row['limit']['own'] for row in rows),
        exact=sum(answer.right for answer in run.measured),
        mistakes=_mistakes(run, thumbnails, most),
    )


def _mistakes(
    run: Run, thumbnails: Thumbnails, most: int
) -> list[dict[str, Any]]:
    """Return images with their wrong labels, in the order of the run."""
    answers = {answer.path: answer for answer in run.measured}
    images: dict[str, list[dict[str, Any]]] = {}
    for mistake in run.numbers['mistakes']:
        if mistake['path'] in answers:
            images.setdefault(mistake['path'], []).append(mistake)
    return [
        dict(
            answer=answers[path],
            thumbnail=thumbnails.of(run.root, path),
            wrong=images[path],
        )
        for path in list(images)[:most]
    ]
