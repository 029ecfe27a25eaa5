"""The way from features to a classifier of images with several labels."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmclip.adapting.choice import holm
from mmclip.adapting.material import Material
from mmclip.adapting.run_files.config_file import write_config
from mmclip.adapting.run_files.model_file import write_model
from mmclip.adapting.run_files.predictions_file import write_predictions
from mmclip.adapting.thresholds import find_thresholds
from mmclip.errors import check_choice, some
from mmclip.evaluation.average_precision import (
    average_precision,
    resampled_means,
)
from mmclip.few_shot.method import Classifier, Method
from mmclip.few_shot.several_labels import METHODS, choose, out_of_fold
from mmclip.own_images.images import SPLITS, Images

NOT_TUNED = 'not fine-tuned: images with several labels are not yet'
MOST_MISTAKES = 200


@dataclass(frozen=True)
class Entrant:
    """A classifier that takes part in the choice.

    Args:
        method (Method): What made it.
        settings (dict): The arguments that cross-validation chose.
        classifier (Classifier): The result.
        resampled (Tensor): Mean average precisions of bootstrap samples of
            the validation images, ``(1000,)``.
        numbers (dict): What goes into ``metrics.json``.
    """

    method: Method
    settings: dict[str, Any]
    classifier: Classifier
    resampled: Tensor
    numbers: dict[str, Any]

    @property
    def precision(self) -> float:
        """Mean average precision on the validation images, which choose."""
        return self.numbers['val']['mean_average_precision']


def make_several(
    material: Material, method: str | None, recipe: str
) -> tuple[dict[str, Any], str]:
    """Make a classifier of images with several labels, and write it.

    Args:
        material (Material): The images, and what the tower sees.
        method (str | None): As in :func:`.adapt.learn`.
        recipe (str): ``'light'``, or what to say of fine-tuning.

    Returns:
        tuple[dict, str]: What ``metrics.json`` says of it, and a summary.

    Raises:
        ArgumentError: If the method made no classifier.
    """
    seen, images, folder = material.seen, material.images, material.folder
    entrants = {
        entrant.numbers['name']: entrant for entrant in compete(material)
    }
    if recipe != 'light':
        material.say(NOT_TUNED)
    if method is not None:
        check_choice('--method', method, entrants)
        best = entrants[method]
    else:
        best = max(entrants.values(), key=lambda e: e.precision)
    others = [e for e in entrants.values() if e is not best]
    clear = holm([compare(best, e) for e in others])
    not_worse = [
        e
        for e, is_clear in zip(others, clear, strict=True)
        if not is_clear or e.precision > best.precision
    ]
    train = images.rows('train')
    thresholds = find_thresholds(
        *out_of_fold(
            best.method,
            best.settings,
            seen.take(train),
            material.seed,
            material.copies[train],
        )
    )
    values = [found.threshold for found in thresholds]
    logits = best.classifier.logits(seen.pooled)
    per_class = {
        split: class_results(
            logits[images.rows(split)].sigmoid(),
            seen.labels[images.rows(split)],
            torch.tensor(values),
        )
        for split in SPLITS[1:]
        if split in images.splits
    }
    said = summary(best, not_worse, per_class, images, method)
    write_model(
        folder.model,
        material.encoder,
        best.classifier,
        images.classes,
        thresholds=values,
    )
    write_config(
        images,
        material.encoder,
        best.classifier,
        folder,
        title=f'{len(images.classes)} classes, several per image; '
        f'{said.splitlines()[0]}.',
        seed=material.seed,
    )
    write_predictions(folder.predictions, images, logits, thresholds=values)
    split = 'test' if 'test' in per_class else 'val'
    return dict(
        methods=[entrant.numbers for entrant in entrants.values()],
        chosen=best.numbers['name'],
        chosen_by='user' if method else 'mean_average_precision',
        not_worse=[e.numbers['name'] for e in not_worse],
        calibration=None,
        training=None,
        thresholds=[asdict(found) for found in thresholds],
        per_class=per_class,
        mistakes=mistakes(logits.sigmoid(), values, images, split),
    ), said


def compete(material: Material) -> list[Entrant]:
    """Let each method choose its settings, learn, and be measured.

    Args:
        material (Material): The images, and what the tower sees.
    """
    images, seed, say = material.images, material.seed, material.say
    rows = images.rows('train')
    train = material.seen.take(rows)
    say('mean average precision on the val images:')
    entrants = []
    for method in METHODS:
        if lack := method.lacks(train):
            say(f'  {method.title:19}left out: {lack}')
            continue
        start = time.perf_counter()
        choice = choose(method, train, seed, material.copies[rows])
        classifier = method.fit(train, **choice.settings)
        numbers: dict[str, Any] = dict(
            name=method.name,
            title=method.title,
            source=method.source,
            settings=choice.settings,
            cross_validation=choice.precision,
            seconds=round(time.perf_counter() - start, 2),
        )
        resampled = {}
        for split in SPLITS[1:]:
            if split in images.splits:
                seen = material.seen.take(images.rows(split))
                numbers[split], resampled[split] = measure(
                    classifier.logits(seen.pooled).sigmoid(), seen.labels, seed
                )
        entrants.append(
            Entrant(
                method,
                choice.settings,
                classifier,
                resampled['val'],
                numbers,
            )
        )
        say(f'  {method.title:19}{_shown(numbers["val"])}')
    return entrants


def measure(
    probabilities: Tensor, targets: Tensor, seed: int
) -> tuple[dict[str, Any], Tensor]:
    """Compute the mean average precision in percent with its 95 % interval.

    Bootstrap samples hold images twice, and their average precision is too
    good: that of guesses is often above the interval of their middle 95 %. So
    it is turned around at the measured value ("basic" bootstrap; Davison and
    Hinkley 1997, section 5.2.1), which also takes the bias of few images away.
    If all samples are alike, as those of a classifier without mistakes, they
    tell nothing, so no interval is given.

    Args:
        probabilities (Tensor): ``(n, K)``.
        targets (Tensor): Which classes each image has, ``(n, K)`` booleans.
        seed (int): Of the samples.

    Returns:
        tuple[dict, Tensor]: The numbers, with that of guesses as ``chance``;
        and the samples' mean average precisions, ``(1000,)``.
    """
    precisions = average_precision(probabilities, targets)
    mean = precisions.nanmean().item()
    resampled = resampled_means(probabilities, targets, seed)
    low, high = basic_interval(mean, resampled)
    is_known = high - low > 1e-9
    measured = targets[:, ~precisions.isnan()]
    return dict(
        mean_average_precision=100 * mean,
        low=100 * min(max(low, 0.0), mean) if is_known else None,
        high=100 * max(min(high, 1.0), mean) if is_known else None,
        chance=100 * measured.double().mean().item(),
        images=len(targets),
    ), resampled


def basic_interval(value: float, resampled: Tensor) -> tuple[float, float]:
    """Return the 95 % interval of a value, from that of bootstrap samples."""
    quantiles = resampled.nanquantile(resampled.new_tensor([0.025, 0.975]))
    low, high = quantiles.tolist()
    return 2 * value - high, 2 * value - low


def compare(one: Entrant, other: Entrant) -> float:
    """Return the p-value of the difference of two classifiers.

    It is below 5 % where the 95 % interval of the difference, from bootstrap
    samples which are the same images for both, does not hold zero.
    """
    difference = (one.precision - other.precision) / 100
    resampled = one.resampled - other.resampled
    resampled = resampled[~resampled.isnan()]
    fewer = min(
        int((resampled >= 2 * difference).sum()),
        int((resampled <= 2 * difference).sum()),
    )
    return min(1.0, 2 * (fewer + 1) / (len(resampled) + 1))


def class_results(
    probabilities: Tensor, targets: Tensor, thresholds: Tensor
) -> list[dict[str, Any]]:
    """Measure each class, in percent; what cannot be measured is None.

    Args:
        probabilities (Tensor): ``(n, K)``.
        targets (Tensor): Which classes each image has, ``(n, K)`` booleans.
        thresholds (Tensor): ``(K,)``.
    """
    given = probabilities >= thresholds
    images, answers = targets.sum(dim=0), given.sum(dim=0)
    right = (given & targets).sum(dim=0)
    shares = dict(
        average_precision=average_precision(probabilities, targets),
        precision=right / answers,
        recall=right / images,
        f1=torch.where(images > 0, 2 * right / (images + answers), torch.nan),
    )
    columns = {name: (100 * share).tolist() for name, share in shares.items()}
    return [
        dict(images=int(number))
        | {
            name: None if np.isnan(column[k]) else column[k]
            for name, column in columns.items()
        }
        for k, number in enumerate(images)
    ]


def mistakes(
    probabilities: Tensor,
    thresholds: Sequence[float],
    images: Images,
    split: str,
) -> list[dict[str, Any]]:
    """List the wrong labels of a split, the most surprising ones first.

    Args:
        probabilities (Tensor): Of all images, ``(N, K)``.
        thresholds (Sequence[float]): K of them.
        images (Images): The images.
        split (str): Whose.

    Returns:
        list[dict]: At most 200: the image, the class, whether it was given
        although it is not there or missed although it is, and its
        probability.
    """
    rows = torch.tensor(images.rows(split))
    targets = torch.tensor(images.targets())[rows]
    found = probabilities[rows]
    wrong = (found >= torch.tensor(thresholds)) != targets
    surprise = (found - targets.float()).abs().where(wrong, -1.0)
    worst = surprise.flatten().sort(descending=True, stable=True).indices
    number = min(int(wrong.sum()), MOST_MISTAKES)
    return [
        dict(
            path=images.paths[rows[i]],
            label=images.classes[k],
            given=not bool(targets[i, k]),
            probability=round(found[i, k].item(), 4),
        )
        for i, k in (
            divmod(place, targets.shape[1])
            for place in worst[:number].tolist()
        )
    ]


def summary(
    best: Entrant,
    not_worse: Sequence[Entrant],
    per_class: dict[str, list[dict[str, Any]]],
    images: Images,
    method: str | None,
) -> str:
    """Say what was chosen, in a few lines."""
    split = 'test' if 'test' in per_class else 'val'
    result = best.numbers[split]
    lines = [
        f'{"as asked" if method else "best"}: {best.numbers["title"]}, mean '
        f'average precision {_shown(result).strip()} on '
        f'{result["images"]:,} {split} images'
    ]
    if split == 'val' and method is None:
        lines.append(
            'chosen on these same images, so the number is slightly too good'
        )
    if not_worse:
        titles = ', '.join(e.numbers['title'] for e in not_worse)
        lines.append(f'not clearly worse on the val images: {titles}')
    for name, results in per_class.items():
        lacking = [
            label
            for label, result in zip(images.classes, results, strict=True)
            if not result['images']
        ]
        if lacking:
            lines.append(
                f'left out of the mean, since no {name} image has them: '
                f'{some(lacking)}'
            )
    f1 = [r['f1'] for r in per_class[split] if r['f1'] is not None]
    lines.append(
        'labels are given from a threshold per class on, found on training '
        f'images held out: F1 {np.mean(f1):.1f} % (mean over the classes)'
    )
    return '\n'.join(lines)


def _shown(result: dict[str, Any]) -> str:
    value = f'{result["mean_average_precision"]:5.1f} %'
    if result['low'] is None:
        return value
    return f'{value} ({result["low"]:.1f} to {result["high"]:.1f})'
