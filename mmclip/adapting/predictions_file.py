"""The table of answers for a run's own validation and test images."""

import csv
from pathlib import Path

from torch import Tensor

from mmclip.adapting.calibration import Calibration
from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.own_images.table import Images
from mmclip.predicting.predictions import Predictions


def write_predictions(
    path: Path, images: Images, logits: Tensor, calibration: Calibration
) -> None:
    """Write path, split, label and answers of validation and test images.

    Args:
        path (Path): The file.
        images (Images): All images.
        logits (Tensor): Theirs, ``(N, K)``.
        calibration (Calibration): How to make them probabilities.
    """
    rows = [*images.rows('val'), *images.rows('test')]
    answers = Predictions(
        [images.paths[row] for row in rows],
        (logits[rows] / calibration.temperature).softmax(dim=1),
        images.classes,
        calibration.threshold,
    )
    header, *lines = answers.rows()
    with (
        atomic_file(path) as temporary,
        open(temporary, 'w', encoding='utf-8', newline='') as file,
    ):
        writer = csv.writer(file)
        writer.writerow([header[0], 'split', 'label', *header[1:]])
        for row, (name, *rest) in zip(rows, lines, strict=True):
            label = images.classes[images.labels[row][0]]
            writer.writerow([name, images.splits[row], label, *rest])
