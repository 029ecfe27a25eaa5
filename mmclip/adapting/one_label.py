"""The way from features to a classifier of images with one label each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from mmclip.adapting.calibration import LEAST, Calibration, calibrate
from mmclip.adapting.choice import compare, holm
from mmclip.adapting.competition import (
    Entrant,
    compete,
    fine_tune,
    pick,
    see_other,
)
from mmclip.adapting.insights import suspects
from mmclip.adapting.material import Material
from mmclip.adapting.run_files.config_file import write_config
from mmclip.adapting.run_files.model_file import write_model
from mmclip.adapting.run_files.predictions_file import write_predictions
from mmclip.adapting.tuning.tune import NAME as TUNED
from mmclip.few_shot.cross_validation import (
    FEW,
    MOST_LOGITS,
    out_of_fold,
)
from mmclip.own_images.images import SPLITS

FEW_TO_CALIBRATE = 300  # validation images; training images help fewer


def make_one(
    material: Material,
    others: Mapping[str, dict[str, Any]],
    method: str | None,
    recipe: str,
    seconds: float,
) -> tuple[dict[str, Any], str]:
    """Make a classifier of images with one label each, and write it.

    Args:
        material (Material): The images, and what the tower sees.
        others (Mapping): As in :func:`.adapt.learn`.
        method (str | None): As there.
        recipe (str): As there.
        seconds (float): As there.

    Returns:
        tuple[dict, str]: What ``metrics.json`` says of it, and a summary.
    """
    also = {name: see_other(material, other) for name, other in others.items()}
    entrants = compete(material, also)
    training = None
    if method not in (None, TUNED):
        pick(entrants, method)  # nothing else needs to be made
        material.say(f'not fine-tuned, since --method is {method}')
    elif recipe != 'light':
        training = fine_tune(material, entrants, others, recipe, seconds)
    best = pick(entrants, method)
    rest = [entrant for entrant in entrants if entrant is not best]
    clear = holm([compare(best.right, entrant.right) for entrant in rest])
    not_worse = [
        entrant.numbers['name']
        for entrant, is_clear in zip(rest, clear, strict=True)
        if not is_clear or entrant.accuracy > best.accuracy
    ]
    logits = best.classifier.logits(best.seen.pooled)
    calibration = calibrate_best(material, best, logits)
    said = summary(best, entrants, not_worse, calibration, method)
    write(material, best, logits, calibration, said.splitlines()[0])
    return dict(
        methods=[entrant.numbers for entrant in entrants],
        chosen=best.numbers['name'],
        chosen_by='accuracy' if method is None else 'user',
        not_worse=not_worse,
        calibration=asdict(calibration),
        training=training,
        suspects=doubtful(material, best),
    ), said


def calibrate_best(
    material: Material, best: Entrant, logits: Tensor
) -> Calibration:
    """Calibrate a classifier on the validation images.

    If they are few, training images help, as classifiers see them that were
    not fitted to them.

    Args:
        material (Material): The images.
        best (Entrant): The classifier.
        logits (Tensor): Its logits of all images, ``(N, K)``.
    """
    labels = material.seen.labels
    train, val, test = (material.images.rows(split) for split in SPLITS)
    more = None
    if (
        len(val) < FEW_TO_CALIBRATE
        and len(train) <= FEW
        and best.numbers['name'] != TUNED
    ):
        rows, unseen = out_of_fold(
            best.method,
            best.settings,
            material.seen.take(train),
            material.seed,
            material.copies[train],
        )
        more = unseen, labels[train[rows]]
    return calibrate(
        logits[val],
        labels[val],
        more=more,
        test=(logits[test], labels[test]) if len(test) else None,
    )


def write(
    material: Material,
    best: Entrant,
    logits: Tensor,
    calibration: Calibration,
    result: str,
) -> None:
    """Write the classifier, its config and its predictions.

    Args:
        material (Material): The images, and the folder.
        best (Entrant): The classifier.
        logits (Tensor): Its logits of all images, ``(N, K)``.
        calibration (Calibration): Its temperature and threshold.
        result (str): What came out, for the config's title.
    """
    images, folder = material.images, material.folder
    write_model(
        folder.model,
        best.encoder,
        best.classifier,
        images.classes,
        calibration,
    )
    write_config(
        images,
        best.encoder,
        best.classifier,
        folder,
        title=f'{len(images.classes)} classes; {result}.',
        seed=material.seed,
    )
    write_predictions(folder.predictions, images, logits, calibration)


def doubtful(material: Material, best: Entrant) -> list[dict[str, Any]]:
    """Find doubtful labels by the chosen method, on images it has not seen.

    What was fine-tuned has seen all training images, so then it is the method
    from which fine-tuning started.
    """
    seen, images = material.seen, material.images
    if len(seen) * seen.num_classes > MOST_LOGITS:
        material.say('labels are not looked over: too many images x classes')
        return []
    rows, logits = out_of_fold(
        best.method, best.settings, seen, material.seed, material.copies
    )
    return [
        dict(
            path=images.paths[rows[i]],
            label=images.classes[images.labels[rows[i]][0]],
            prediction=images.classes[label],
            probability=round(probability, 4),
        )
        for i, label, probability in suspects(logits, seen.labels[rows])
    ]


def summary(
    best: Entrant,
    entrants: Sequence[Entrant],
    not_worse: Sequence[str],
    calibration: Calibration,
    method: str | None,
) -> str:
    """Say what was chosen, in a few lines."""
    numbers = best.numbers
    split = 'test' if 'test' in numbers else 'val'
    result = numbers[split]
    lines = [
        f'{"best" if method is None else "as asked"}: {numbers["title"]}, '
        f'{result["accuracy"]:.1f} % of '
        f'{result["images"]:,} {split} images '
        f'({result["low"]:.1f} to {result["high"]:.1f})'
    ]
    if split == 'val' and method is None:
        lines.append(
            'chosen on these same images, so the number is slightly too good'
        )
    if not_worse:
        titles = [
            entrant.numbers['title']
            for entrant in entrants
            if entrant.numbers['name'] in not_worse
        ]
        lines.append(
            f'not clearly worse on the val images: {", ".join(titles)}'
        )
    lines.append(
        f'calibration error ({calibration.split} images): '
        f'{calibration.error_before:.1f} % before, '
        f'{calibration.error_after:.1f} % after'
        + (
            ''
            if calibration.error_after <= calibration.error_before
            else ' (not better)'
        )
        + f'; {_sureness(calibration)}'
    )
    return '\n'.join(lines)


def _sureness(calibration: Calibration) -> str:
    """Say how many images get an answer."""
    right = calibration.accuracy_of_answered
    of_them = '' if right is None else f', {right:.1f} % of them right'
    if calibration.too_few:
        return (
            f'every image gets an answer{of_them}, since fewer than {LEAST} '
            'validation images cannot tell when it is sure'
        )
    if not calibration.threshold:
        return f'every image gets an answer{of_them}'
    return (
        f'sure from {calibration.threshold:.2f} on '
        f'({calibration.answered:.0f} % of the images{of_them})'
    )
