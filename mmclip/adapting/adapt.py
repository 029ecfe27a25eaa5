"""The whole way from a folder of images to a classifier."""

import datetime
import filecmp
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device

from mmclip.adapting.calibration import Calibration, calibrate
from mmclip.adapting.card import write_card
from mmclip.adapting.choice import compare, holm
from mmclip.adapting.competition import (
    Entrant,
    compete,
    fine_tune,
    pick,
    see_other,
)
from mmclip.adapting.config_file import dataset, write_config
from mmclip.adapting.encoder import Encoder, encode, open_encoder
from mmclip.adapting.insights import (
    embedding_map,
    near_duplicates,
    suspects,
)
from mmclip.adapting.model_file import write_model
from mmclip.adapting.predictions_file import write_predictions
from mmclip.adapting.run_folder import RunFolder, write_text
from mmclip.adapting.several_labels import make_several
from mmclip.adapting.tuning.tune import NAME as TUNED
from mmclip.engine.checks.duplicates import find_copies
from mmclip.errors import ArgumentError, DataError, check_choice, some
from mmclip.few_shot import METHODS, several_labels
from mmclip.few_shot.cross_validation import (
    FEW,
    MOST_LOGITS,
    out_of_fold,
)
from mmclip.few_shot.method import Encoded, Text
from mmclip.own_images.survey import find_small, survey
from mmclip.own_images.table import SPLITS, Finding, Images
from mmclip.text.class_embeddings import Template, make_texts
from mmclip.version import __version__

FEW_TO_CALIBRATE = 300  # validation images; training images help fewer


def learn(
    images: Images,
    folder: RunFolder,
    *,
    model: str,
    weights: str | None = None,
    names: Sequence[str] | None = None,
    templates: Sequence[Template],
    others: Mapping[str, dict[str, Any]],
    method: str | None = None,
    recipe: str = 'auto',
    seconds: float = 600.0,
    seed: int = 0,
    command: str = '',
    say: Callable[[str], None] = print,
) -> None:
    """Make a classifier from images, and write all about it into a folder.

    Args:
        images (Images): The images.
        folder (RunFolder): The folder of the run.
        model (str): See :func:`.encoder.open_encoder`.
        weights (str | None): See there.
        names (Sequence[str] | None): Class names for the text tower, in the
            order of the classes. Defaults to the names of the folders, with
            spaces for ``_`` and ``-``.
        templates (Sequence): See
            :func:`mmclip.text.class_embeddings.named_templates`.
        others (Mapping[str, dict]): Data sets that are only measured.
        method (str | None): The name of the method whose classifier is
            taken, whatever the accuracies. Defaults to None: the best.
        recipe (str): ``'light'``, or how the tower is fine-tuned, see
            :func:`.tuning.tune.tune`. Defaults to ``'auto'``.
        seconds (float): The time for fine-tuning. Defaults to 600.
        seed (int): The seed of folds and training. Defaults to 0.
        command (str): What makes this run again, for the page.
        say (Callable): Prints a line for the user.
    """
    start = time.perf_counter()
    if method is not None:
        known = [*(m.name for m in METHODS), TUNED]
        if images.several_labels:
            known = [m.name for m in several_labels.METHODS]
        check_choice('--method', method, known)
        if method == TUNED and recipe == 'light':
            raise ArgumentError(
                f'--method {TUNED} needs another --recipe than light.'
            )
    make_texts([''], templates)  # refuses what is no template
    check(images, names, recipe)
    counts = {split: len(images.rows(split)) for split in SPLITS}
    say(
        f'{len(images):,} images of {len(images.classes)} classes: '
        + ', '.join(f'{n:,} {split}' for split, n in counts.items() if n)
        + (f' ({images.made_split})' if images.made_split else '')
    )
    findings, sizes = survey(images)
    for finding in findings:
        say(f'  {finding.text}')
    encoder = open_encoder(model, weights)
    for finding in find_small(images, sizes, encoder.clip['img_size']):
        findings.append(finding)
        say(f'  {finding.text}')
    text = None
    if encoder.embed is not None:  # first, since its files may be missing
        text = encoder.embed(names or spoken(images), templates, say)
    folder.begin()
    images.write(folder.split)
    write_text(folder.classes, '\n'.join(images.classes) + '\n')
    everything = see(encoder, images, folder, text, say)
    if images.several_labels:
        found, said = make_several(
            encoder,
            everything,
            images,
            folder,
            method,
            recipe,
            seed,
            say,
            copies(images),
        )
    else:
        found, said = make_one(
            encoder,
            everything,
            images,
            others,
            folder,
            method,
            recipe,
            seconds,
            seed,
            say,
        )
    looks = look(everything, images)
    across = [
        pair['paths']
        for pair in looks['duplicates']
        if not pair['exact'] and len(set(pair['splits'])) > 1
    ]
    if across:  # exact ones have been named
        say(
            f'  {len(across)} pairs of almost equal images in different '
            f'splits, such as {" and ".join(across[0])}, make accuracies too '
            'good: remove one of each (they are in the page).'
        )
    numbers = dict(
        mmclip=__version__,
        command=command,
        date=datetime.datetime.now().isoformat(timespec='minutes'),
        seconds=round(time.perf_counter() - start, 1),
        seed=seed,
        model=model,
        device=get_device(),
        data=describe_data(images, counts, findings),
        several_labels=images.several_labels,
        **dict(suspects=[]) | found,
        **looks,
    )
    write_card(folder, numbers)
    folder.write_metrics(numbers)
    say(said)


def make_one(
    encoder: Encoder,
    everything: Encoded,
    images: Images,
    others: Mapping[str, dict[str, Any]],
    folder: RunFolder,
    method: str | None,
    recipe: str,
    seconds: float,
    seed: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], str]:
    """Make a classifier of images with one label each, and write it.

    Args:
        encoder (Encoder): The tower.
        everything (Encoded): All images, as the tower sees them.
        images (Images): The images.
        others (Mapping): See :func:`learn`.
        folder (RunFolder): Where model, config and predictions go.
        method (str | None): As in :func:`learn`.
        recipe (str): As there.
        seconds (float): As there.
        seed (int): As there.
        say (Callable): As there.

    Returns:
        tuple[dict, str]: What ``metrics.json`` says of it, and a summary.
    """
    also = {
        name: see_other(encoder, other, everything, folder, say)
        for name, other in others.items()
    }
    groups = copies(images)
    entrants = compete(encoder, everything, images, also, seed, say, groups)
    training = None
    if method not in (None, TUNED):
        pick(entrants, method)  # nothing else needs to be made
    elif recipe != 'light':
        training = fine_tune(
            entrants, images, others, folder, recipe, seconds, seed, say
        )
    best = pick(entrants, method)
    others_right = [e for e in entrants if e is not best]
    clear = holm([compare(best.right, e.right) for e in others_right])
    not_worse = [
        entrant.numbers['name']
        for entrant, is_clear in zip(others_right, clear, strict=True)
        if not is_clear or entrant.accuracy > best.accuracy
    ]
    logits = best.classifier.logits(best.seen.pooled)
    labels = everything.labels
    train, val, test = (images.rows(split) for split in SPLITS)
    more = None
    if (
        len(val) < FEW_TO_CALIBRATE
        and len(train) <= FEW
        and best.numbers['name'] != TUNED
    ):
        rows, unseen = out_of_fold(
            best.method,
            best.settings,
            everything.take(train),
            seed,
            groups[train],
        )
        more = unseen, labels[train[rows]]
    calibration = calibrate(
        logits[val],
        labels[val],
        more=more,
        test=(logits[test], labels[test]) if len(test) else None,
    )
    said = summary(best, entrants, not_worse, calibration, method)

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
        title=f'{len(images.classes)} classes; {said.splitlines()[0]}.',
        seed=seed,
    )
    write_predictions(folder.predictions, images, logits, calibration)
    return dict(
        methods=[entrant.numbers for entrant in entrants],
        chosen=best.numbers['name'],
        chosen_by='accuracy' if method is None else 'user',
        not_worse=not_worse,
        calibration=asdict(calibration),
        training=training,
        suspects=doubtful(everything, images, best, seed, groups, say),
    ), said


def check(images: Images, names: Sequence[str] | None, recipe: str) -> None:
    """Refuse images from which no classifier can be made and chosen.

    Args:
        images (Images): The images.
        names (Sequence[str] | None): What the user calls the classes.
        recipe (str): As in :func:`learn`.

    Raises:
        ArgumentError: If there are not as many names as classes, or images
            with several labels are to be fine-tuned.
        DataError: If no image of a split has a label.
    """
    if images.several_labels and recipe not in ('auto', 'light'):
        raise ArgumentError(
            f'--recipe {recipe} is for images with one label each. Train on '
            'from the run with: mmclip train CONFIG'
        )
    for split in SPLITS[1:]:
        if split in images.splits and not images.per_class(split).any():
            raise DataError(
                f'No {split} image has a label, so nothing can be measured '
                'with them.'
            )
    if names and len(names) != len(images.classes):
        raise ArgumentError(
            f'{len(names)} names are given for {len(images.classes)} classes: '
            f'there must be one for each of {some(images.classes)}, in this '
            'order.'
        )


def spoken(images: Images) -> list[str]:
    """Return the class names as a caption would have them."""
    return [
        name.replace('_', ' ').replace('-', ' ') for name in images.classes
    ]


def see(
    encoder: Encoder,
    images: Images,
    folder: RunFolder,
    text: Text | None,
    say: Callable[[str], None],
) -> Encoded:
    """Compute what the image tower says of the images."""
    data = dataset(images, folder, None)
    found = encode(encoder, data, folder.features, say=say)
    return Encoded(
        torch.tensor(found.features),
        torch.tensor(
            images.targets()
            if images.several_labels
            else images.first_labels()
        ),
        len(images.classes),
        encoder.projection,
        text,
    )


def copies(images: Images) -> np.ndarray:
    """Return a number per image, the same for exact copies, ``(N,)``."""
    found = np.arange(len(images))
    rows = {images.full_path(row): row for row in range(len(images))}
    for group in find_copies(list(rows)):
        found[[rows[path] for path in group]] = rows[group[0]]
    return found


def doubtful(
    everything: Encoded,
    images: Images,
    best: Entrant,
    seed: int,
    groups: np.ndarray,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Find doubtful labels by the chosen method, on images it has not seen.

    What was fine-tuned has seen all training images, so then it is the method
    from which fine-tuning started.
    """
    if len(everything) * everything.num_classes > MOST_LOGITS:
        say('labels are not looked over: too many images x classes')
        return []
    rows, logits = out_of_fold(
        best.method, best.settings, everything, seed, groups
    )
    return [
        dict(
            path=images.paths[rows[i]],
            label=images.classes[images.labels[rows[i]][0]],
            prediction=images.classes[label],
            probability=round(probability, 4),
        )
        for i, label, probability in suspects(logits, everything.labels[rows])
    ]


def look(everything: Encoded, images: Images) -> dict[str, Any]:
    """Collect what the features say of the images."""
    return dict(
        map=embedding_map(everything.embedded()),
        duplicates=[
            dict(
                paths=[images.paths[one], images.paths[other]],
                splits=[images.splits[one], images.splits[other]],
                exact=filecmp.cmp(
                    images.full_path(one),
                    images.full_path(other),
                    shallow=False,
                ),
                similarity=round(cosine, 4),
            )
            for one, other, cosine in near_duplicates(
                everything.pooled, images.splits
            )
        ],
    )


def describe_data(
    images: Images, counts: dict[str, int], findings: Sequence[Finding]
) -> dict[str, Any]:
    """Return what ``metrics.json`` says of the images."""
    return dict(
        root=images.root,
        made_split=images.made_split,
        images=counts,
        per_class={
            split: images.per_class(split).tolist() for split in SPLITS
        },
        findings=[asdict(finding) for finding in findings],
    )


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
    if not calibration.threshold:
        return f'every image gets an answer{of_them}'
    return (
        f'sure from {calibration.threshold:.2f} on '
        f'({calibration.answered:.0f} % of the images{of_them})'
    )
