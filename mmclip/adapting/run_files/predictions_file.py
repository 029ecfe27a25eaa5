"""The table of answers for a run's own validation and test images."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmclip.adapting.calibration import Calibration
from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.datasets.image_table import SEPARATOR
from mmclip.own_images.images import Images
from mmclip.predicting.label_sets import LabelSets
from mmclip.predicting.predictions import Predictions


def write_predictions(
    path: Path,
    images: Images,
    logits: Tensor,
    calibration: Calibration | None = None,
    thresholds: Sequence[float] | None = None,
) -> None:
    """Write path, split, label and answers of validation and test images.

    Args:
        path (Path): The file.
        images (Images): All images.
        logits (Tensor): Theirs, ``(N, K)``.
        calibration (Calibration | None): How to make them probabilities.
        thresholds (Sequence[float] | None): Those of the classes instead, if
            images may have several labels.
    """
    rows = [*images.rows('val'), *images.rows('test')]
    paths = [images.paths[row] for row in rows]
    if calibration is not None:
        answers = Predictions(
            paths,
            (logits[rows] / calibration.temperature).softmax(dim=1),
            images.classes,
            calibration.threshold,
        )
    else:
        answers = LabelSets(
            paths,
            logits[rows].sigmoid(),
            images.classes,
            torch.tensor(thresholds),
        )
    header, *lines = answers.rows()
    with (
        atomic_file(path) as temporary,
        open(temporary, 'w', encoding='utf-8', newline='') as file,
    ):
        writer = csv.writer(file)
        writer.writerow([header[0], 'split', 'label', *header[1:]])
        for row, (name, *rest) in zip(rows, lines, strict=True):
            labels = [images.classes[k] for k in images.labels[row]]
            label = SEPARATOR.join(labels)
            writer.writerow([name, images.splits[row], label, *rest])
