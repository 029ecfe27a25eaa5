"""Fine-tuning of the tower, from the best linear classifier on its features.

It starts from that classifier, as LP-FT does (arXiv 2202.10054), and ends
between it and the tuned weights, as WiSE-FT does (arXiv 2109.01903).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mmpretrain.models.heads import LinearClsHead
from torch import Tensor

from mmclip.adapting.encode import encode
from mmclip.adapting.inputs import RECIPES
from mmclip.adapting.run_files.config_file import dataset
from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.adapting.tuning.files import (
    Begun,
    Task,
    digest,
    digest_of_seen,
    keep_curves,
    remove,
)
from mmclip.adapting.tuning.schedule import schedule
from mmclip.adapting.tuning.training import Trained, train
from mmclip.adapting.tuning.wise_ft import ALPHA, choose_alpha
from mmclip.averaging.average import interpolate, read_weights
from mmclip.engine.config.load import load_config
from mmclip.few_shot.method import Classifier, Encoded, Method
from mmclip.named_model.encoder import Encoder, Projection
from mmclip.own_images.images import Images
from mmclip.own_images.splits import split_by_class
from mmclip.text.zero_shot_head import ZeroShotClsHead

NAME, TITLE = 'fine_tuned', 'fine-tuned'
SOURCE = 'arXiv 2202.10054, arXiv 2109.01903'
# Heads that are one linear layer, so that the tower's rates suit them.
LINEAR = (LinearClsHead, ZeroShotClsHead)
# Fewer images than this make the accuracy of a fifth of them too uncertain
# to choose by it; all are trained on, and alpha is WiSE-FT's default.
HOLD_OUT_FROM, MOST_HELD_OUT = 1000, 2000
# With fewer wrong images, even a classifier without mistakes does not differ
# from this one (McNemar's exact test at 5 %, as in :func:`.choice.differ`).
LEAST_WRONG = 6
# With one scan per digit, the demo's model gains nothing that could be told
# from noise (0.3 points); with three, it gains 2 to 3.5 points.
LEAST_PER_CLASS = 2


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned classifier.

    Args:
        encoder (Encoder): The tower, with its new weights.
        classifier (Classifier): The head, and the projection below it.
        seen (Encoded): All images, as the new tower sees them.
        settings (dict): The start and WiSE-FT's alpha.
        training (dict): What ``metrics.json`` says of the training.
    """

    encoder: Encoder
    classifier: Classifier
    seen: Encoded
    settings: dict[str, Any]
    training: dict[str, Any]


def why_not(images: Images, right: Tensor) -> str:
    """Tell why fine-tuning is not worth its time; empty if it is.

    Args:
        images (Images): The images.
        right (Tensor): Which validation images the best classifier so far has
            right, ``(n,)`` booleans.
    """
    if images.several_labels:
        return 'images with several labels are not fine-tuned yet'
    per_class = len(images.rows('train')) / len(images.classes)
    if per_class < LEAST_PER_CLASS:
        return f'{per_class:.1f} training images per class are too few'
    if (wrong := int((~right).sum())) < LEAST_WRONG:
        return (
            f'only {wrong} of {len(right):,} validation images are wrong, so '
            'no better classifier could be told from this one'
        )
    return ''


def tune(
    images: Images,
    encoder: Encoder,
    everything: Encoded,
    method: Method,
    settings: dict[str, Any],
    folder: RunFolder,
    *,
    recipe: str = 'auto',
    seconds: float = 600.0,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Tuned | None:
    """Fine-tune the tower, if there is time.

    A run that was stopped goes on where it stopped, unless anything that it
    is made of has changed: images, weights, class names, recipe or time.

    Args:
        images (Images): The images, of which the training images are used.
        encoder (Encoder): The tower.
        everything (Encoded): All images, as the tower sees them.
        method (Method): What makes the linear classifier to start from.
        settings (dict): Its arguments.
        folder (RunFolder): The run, in which ``tuning/`` is for the training.
        recipe (str): ``'auto'``: as far as the time allows; ``'full'``: all
            blocks and all steps; or a config to train with, which is based on
            ``config.py`` of a run. Defaults to ``'auto'``.
        seconds (float): The time for ``'auto'``. Defaults to 600.
        seed (int): Of the images held out and of the training.
        say (Callable): Prints a line for the user.

    Returns:
        Tuned | None: None if there is not enough time.
    """
    rows = images.rows('train')
    inner = hold_out(images.take(rows), seed)
    learned_from = everything.take(rows).take(inner.rows('train'))
    start = method.fit(learned_from, **settings)
    work = RunFolder(folder.tuning)
    task = Task(inner, encoder, start, work, seed)
    made_of = dict(
        images=digest([inner.root, inner.paths, inner.labels, inner.splits]),
        seen=digest_of_seen(learned_from),
        model=encoder.called,
        start=[method.name, settings],
        recipe=recipe
        if recipe in RECIPES
        else digest(load_config(recipe).pretty_text),
        seconds=seconds if recipe == 'auto' else None,
        seed=seed,
    )
    begun = Begun.read(work, made_of)
    if begun is None:
        remove(work)
        task.write_start()
        found = schedule(task, recipe, seconds, len(images), say)
        if found is None:
            remove(work)
            return None
        begun = Begun(made_of, found.settings, found.estimated, found.fitted)
        begun.write(work)
    began = time.perf_counter()
    trained = train(task, folder.log, say)
    weights, alpha = _weights_between(task, trained)
    result, classifier = as_classifier(encoder, start, weights)
    seen = _see_again(result, everything, images, folder, say)
    training = trained.numbers | dict(
        seconds=round(time.perf_counter() - began, 1),
        estimated_seconds=round(begun.estimated, 1),
        plan=begun.plan | dict(alpha=alpha),
        fitted=begun.fitted,
    )
    keep_curves(work, folder)
    remove(work)
    how = dict(start=method.name, alpha=alpha)
    return Tuned(result, classifier, seen, how, training)


def hold_out(train: Images, seed: int) -> Images:
    """Hold out a fifth of the training images, if there are enough.

    Args:
        train (Images): Training images only.
        seed (int): Which are drawn.
    """
    if len(train) < HOLD_OUT_FROM:
        return train
    held = split_by_class(train, seed)
    rows = held.rows('val')
    splits = np.array(held.splits)
    random = np.random.default_rng(seed)
    splits[random.permutation(rows)[MOST_HELD_OUT:]] = 'train'
    return replace(held, splits=tuple(splits.tolist()))


def as_classifier(
    encoder: Encoder, start: Classifier, weights: Mapping[str, Tensor]
) -> tuple[Encoder, Classifier]:
    """Turn weights of the whole model into a tower and a head.

    Args:
        encoder (Encoder): The tower before the training.
        start (Classifier): The head before the training.
        weights (Mapping): ``backbone.*`` and ``head.*``.
    """
    parts: dict[str, dict[str, Tensor]] = dict(backbone={}, head={})
    for key in weights:
        part, _, name = key.partition('.')
        parts[part][name] = weights[key]
    tower = parts['backbone']
    backbone = encoder.backbone(projects=start.projection is not None)
    result = Encoder(
        encoder.called, encoder.clip | dict(backbone=backbone), tower, None
    )
    start.head.load_state_dict(parts['head'])
    projection = start.projection
    if projection is not None:
        projection = Projection(tower['proj'], tower.get('proj_bias'))
    return result, Classifier(start.head, projection)


def _weights_between(
    task: Task, trained: Trained
) -> tuple[dict[str, Tensor], float]:
    """Return the weights between start and end, and how far they are."""
    light = read_weights(task.folder.model)['state_dict']
    tuned = read_weights(trained.best)['state_dict']
    alpha = ALPHA
    if len(task.images.rows('val')):
        alpha = choose_alpha(trained.runner, light, tuned)
    return interpolate(light, tuned, alpha), alpha


def _see_again(
    encoder: Encoder,
    before: Encoded,
    images: Images,
    folder: RunFolder,
    say: Callable[[str], None],
) -> Encoded:
    """Compute what the tuned tower says of the images."""
    cache = RunFolder(folder.tuning).features
    found = encode(encoder, dataset(images, folder, None), cache, say=say)
    return replace(
        before,
        pooled=torch.tensor(found.features),
        projection=encoder.projection,
        text=None,
    )
