"""Classifiers that compete on the validation images."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mmclip.adapting.choice import interval
from mmclip.adapting.encode import encode
from mmclip.adapting.material import Material
from mmclip.adapting.tuning.tune import (
    LINEAR,
    NAME,
    SOURCE,
    TITLE,
    tune,
    why_not,
)
from mmclip.checkpoint.towers.tower import MODULES
from mmclip.errors import DataError
from mmclip.few_shot import METHODS
from mmclip.few_shot.cross_validation import choose
from mmclip.few_shot.method import Classifier, Encoded, Method
from mmclip.few_shot.temperature import best_loss
from mmclip.named_model.encoder import Encoder


@dataclass(frozen=True)
class Entrant:
    """A classifier that takes part in the choice.

    Args:
        method (Method): What made it, or what fine-tuning started from.
        settings (dict): The arguments that cross-validation chose.
        encoder (Encoder): The tower.
        seen (Encoded): All images, as the tower sees them.
        classifier (Classifier): The result.
        right (Tensor): Which validation images it has right, ``(n,)``.
        numbers (dict): What goes into ``metrics.json``.
    """

    method: Method
    settings: dict[str, Any]
    encoder: Encoder
    seen: Encoded
    classifier: Classifier
    right: Tensor
    numbers: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """Top-1 in percent on the validation images, which choose."""
        return self.numbers['val']['accuracy']

    @property
    def rank(self) -> tuple[float, float]:
        """Say how good it is; of equal accuracies, the lower loss is better.

        The loss is that at its best temperature.
        """
        return self.accuracy, -self.numbers['val']['loss']


def pick(entrants: Sequence[Entrant], method: str | None) -> Entrant:
    """Return the entrant of a method, or the best if None is asked for.

    Raises:
        DataError: If that method made none.
    """
    if method is None:
        return max(entrants, key=lambda e: e.rank)
    for entrant in entrants:
        if entrant.numbers['name'] == method:
            return entrant
    made = ', '.join(entrant.numbers['name'] for entrant in entrants)
    raise DataError(
        f'--method {method} made no classifier of these images; the lines '
        f'above say why. Choose one of {made}.'
    )


def compete(material: Material, also: Mapping[str, Encoded]) -> list[Entrant]:
    """Let each method choose its settings, learn, and be measured.

    Args:
        material (Material): The images, and what the tower sees.
        also (Mapping[str, Encoded]): Other images, which are only measured.
    """
    seen, say = material.seen, material.say
    rows = material.images.rows('train')
    train = seen.take(rows)
    entrants = []
    if also:
        say(f'{"":21}{"val":^22}   {"   ".join(f"{n:^22}" for n in also)}')
    for method in METHODS:
        if lack := method.lacks(train):
            say(f'  {method.title:19}left out: {lack}')
            continue
        start = time.perf_counter()
        choice = choose(method, train, material.seed, material.copies[rows])
        classifier = method.fit(train, **choice.settings)
        numbers: dict[str, Any] = dict(
            name=method.name,
            title=method.title,
            source=method.source,
            settings=choice.settings,
            cross_validation=(
                choice.accuracy if method.tries_as_it_fits else None
            ),
            seconds=round(time.perf_counter() - start, 2),
        )
        right = measure(material, classifier, also, numbers)
        entrants.append(
            Entrant(
                method,
                choice.settings,
                material.encoder,
                seen,
                classifier,
                right,
                numbers,
            )
        )
    return entrants


def fine_tune(
    material: Material,
    entrants: list[Entrant],
    others: Mapping[str, dict[str, Any]],
    recipe: str,
    seconds: float,
) -> dict[str, Any] | None:
    """Add a fine-tuned classifier to the entrants, if it is worth it.

    Args:
        material (Material): The images, and what the tower sees.
        entrants (list[Entrant]): The others, to which it is added.
        others (Mapping[str, dict]): Data sets that are only measured.
        recipe (str): As in :func:`.tuning.tune.tune`.
        seconds (float): As there.

    Returns:
        dict | None: What ``metrics.json`` says of the training.
    """
    images, say = material.images, material.say
    reason = why_not(images, max(entrants, key=lambda e: e.rank).right)
    linear = [e for e in entrants if type(e.classifier.head) in LINEAR]
    impossible = ''
    if material.encoder.clip['backbone']['type'] in MODULES:
        impossible = "the tower is not built of mmclip's own blocks"
    elif not linear:
        impossible = 'no linear classifier took part that it could start from'
    if impossible or (reason and recipe == 'auto'):
        say(f'not fine-tuned: {impossible or reason}')
        return None
    start = max(linear, key=lambda e: e.rank)
    tuned = tune(
        images,
        start.encoder,
        start.seen,
        start.method,
        start.settings,
        material.folder,
        recipe=recipe,
        seconds=seconds,
        seed=material.seed,
        say=say,
    )
    if tuned is None:
        return None
    numbers: dict[str, Any] = dict(
        name=NAME,
        title=TITLE,
        source=SOURCE,
        settings=tuned.settings,
        cross_validation=None,
        seconds=tuned.training['seconds'],
    )
    after = replace(material, encoder=tuned.encoder, seen=tuned.seen)
    also = {name: see_other(after, other) for name, other in others.items()}
    right = measure(after, tuned.classifier, also, numbers)
    entrants.append(
        replace(
            start,
            encoder=tuned.encoder,
            seen=tuned.seen,
            classifier=tuned.classifier,
            right=right,
            numbers=numbers,
        )
    )
    return tuned.training


def see_other(material: Material, other: dict[str, Any]) -> Encoded:
    """Compute what the tower sees of images that are only measured."""
    found = encode(
        material.encoder, other, material.folder.features, say=material.say
    )
    return replace(
        material.seen,
        pooled=torch.tensor(found.features),
        labels=torch.tensor(found.labels),
    )


def measure(
    material: Material,
    classifier: Classifier,
    also: Mapping[str, Encoded],
    numbers: dict[str, Any],
) -> Tensor:
    """Measure a classifier into ``numbers``, and say what came out.

    Args:
        material (Material): The images, as the classifier's tower sees them.
        classifier (Classifier): The classifier.
        also (Mapping[str, Encoded]): Other images, which are only measured.
        numbers (dict): What goes into ``metrics.json``.

    Returns:
        Tensor: Which validation images it has right, ``(n,)`` booleans.
    """
    right = {}
    for split in ('val', 'test'):
        rows = material.images.rows(split)
        if len(rows):
            seen = material.seen.take(rows)
            logits = classifier.logits(seen.pooled)
            right[split] = logits.argmax(dim=1) == seen.labels
            numbers[split] = measured(right[split])
            if split == 'val':
                numbers[split]['loss'] = best_loss(logits, seen.labels)
    if also:
        numbers['also'] = {
            name: measured(_right(classifier, other))
            for name, other in also.items()
        }
    columns = [numbers['val'], *numbers.get('also', {}).values()]
    line = '   '.join(map(_column, columns))
    material.say(f'  {numbers["title"]:19}{line}'.rstrip())
    if classifier.note:
        material.say(f'  {"":19}{classifier.note}')
    return right['val']


def measured(right: Tensor) -> dict[str, Any]:
    """Return top-1 in percent with its 95 % interval.

    Args:
        right (Tensor): Which images are right, ``(n,)`` booleans.
    """
    number = int(right.sum())
    low, high = interval(number, len(right))
    accuracy = 100 * number / len(right)
    return dict(accuracy=accuracy, low=low, high=high, images=len(right))


def _column(result: dict[str, Any]) -> str:
    spread = f'({result["low"]:.1f} to {result["high"]:.1f})'
    return f'{result["accuracy"]:5.1f} % {spread:15}'


def _right(classifier: Classifier, images: Encoded) -> Tensor:
    return classifier.logits(images.pooled).argmax(dim=1) == images.labels
