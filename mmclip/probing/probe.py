"""Linear probing of a checkpoint, from images to a classifier."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import weights_to_cpu
from torch import nn

from mmclip.checkpoint.describe import (
    describe_model,
    pipeline_of,
    unlike_images,
)
from mmclip.checkpoint.pretrained import PretrainedCLIP
from mmclip.errors import ConfigError
from mmclip.models.loading import CALLER, loaded_by
from mmclip.probing.features import (
    Features,
    build_dataset,
    check_labels,
    extract_features,
    feature_shape,
    model_config,
)
from mmclip.probing.knn import knn_predictions
from mmclip.probing.logistic import (
    LinearClassifier,
    LogisticRegression,
    fit,
)
from mmclip.probing.sweep import Trial, sweep
from mmclip.version import __version__

VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class ProbeResult:
    """The results of a linear probe.

    Args:
        linear_top1 (float): Top-1 in percent on the test set.
        knn_top1 (float): The same for nearest neighbours.
        c (float): The inverse strength of the regularisation.
        converged (bool): Whether the final classifier's solver finished
            before 1,000 iterations.
        validation (str): The images that ``C`` was chosen on.
        trials (list[Trial]): Every ``C`` that was tried, best first.
        notes (list[str]): Reasons why the numbers may mislead.
    """

    linear_top1: float
    knn_top1: float
    c: float
    converged: bool
    validation: str
    trials: list[Trial]
    notes: list[str]


def probe(
    cfg: Config,
    checkpoint: str,
    cache: str | Path,
    *,
    amp: bool = False,
    report: Callable[[Trial], None] = lambda trial: None,
) -> tuple[ProbeResult, dict[str, Any]] | None:
    """Train a linear classifier on the frozen features of a tower.

    The features are the input of the head's linear layer: with
    ``out_type='pooled'`` and no ``proj_dim``, those before CLIP's projection,
    as in arXiv 2103.00020, appendix A.3. ``C`` is chosen on the config's
    validation set if its images differ from those of the training and test
    sets, otherwise on a tenth of the training set (at least one image per
    class, drawn with seed 0). The final classifier is trained on both.

    Args:
        cfg (Config): The config of a classifier whose head is a linear layer
            ``fc``.
        checkpoint (str): A tower or a whole classifier, in any form that
            ``init_cfg`` takes; see :class:`PretrainedCLIP`.
        cache (str | Path): The folder for cached features.
        amp (bool): See :func:`extract_features`.
        report (Callable): A function to call with each trial.

    Returns:
        tuple[ProbeResult, dict] | None: The results, and the classifier's
        checkpoint; None in all processes but the first.

    Raises:
        CheckpointError: If the checkpoint does not fit the backbone.
        ConfigError: If the model, the data sets or their classes do not fit.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with loaded_by(CALLER):
        model = MODELS.build(model_config(cfg))
    _check_model(model)
    tower = PretrainedCLIP(checkpoint)
    loaded = tower.read()
    tower.load(loaded, model.backbone)
    _check_width(feature_shape(model, cfg), model.head.fc.in_features)
    splits = ['train', 'test']
    if cfg.get('val_dataloader'):
        splits.insert(1, 'val')
    datasets = {split: build_dataset(cfg, split) for split in splits}
    for split, dataset in datasets.items():
        check_labels(dataset, split)
    found = {
        split: extract_features(
            model, cfg, split, cache, amp=amp, dataset=dataset
        )
        for split, dataset in datasets.items()
    }
    if not is_main_process():
        return None
    _check_classes(found, model.head.fc.out_features)
    classifier, result = _train_and_test(found, report)
    if unlike := unlike_images(model, pipeline_of(cfg.test_dataloader)):
        result.notes.append(
            'images are not prepared as the weights expect: '
            f'{"; ".join(unlike)}.'
        )
    return result, _make_checkpoint(
        model, cfg, classifier, result, found['train'].classes
    )


def _check_model(model: Any) -> None:
    head = getattr(model, 'head', None)
    fc = getattr(head, 'fc', None)
    if not isinstance(fc, nn.Linear) or fc.bias is None:
        raise ConfigError(
            'A linear probe needs a head with one linear layer, such as '
            f'LinearClsHead; the config has {type(head).__name__}.'
        )
    if getattr(model, 'neck', None) and list(model.neck.parameters()):
        raise ConfigError(
            f'The neck {type(model.neck).__name__} has weights, which a '
            "tower's checkpoint does not have; remove it from the config."
        )


def _check_width(shape: tuple[int, ...], in_features: int) -> None:
    """Refuse a head of the wrong width before features are computed."""
    if shape == (in_features,):
        return
    step = (
        f'set model.head.in_channels={shape[0]}'
        if len(shape) == 1
        else "set model.backbone.out_type to 'pooled' or 'avg_featmap'"
    )
    raise ConfigError(
        f"An image's feature has shape {shape}, but the head's layer takes "
        f'{in_features} numbers: {step}.'
    )


def _check_classes(found: dict[str, Features], num_classes: int) -> None:
    train = found['train']
    for split, other in found.items():
        if other.classes != train.classes:
            raise ConfigError(
                f'The {split} set does not have the classes of the train '
                'set, so the same label would mean different classes: '
                f'{sorted(set(other.classes) ^ set(train.classes))[:10]}.'
            )
        size = max(len(other.classes), int(other.labels.max()) + 1)
        if size != num_classes:
            raise ConfigError(
                f'The {split} set has {size} classes, but the head has '
                f'{num_classes}: set model.head.num_classes.'
            )


def _train_and_test(
    found: dict[str, Features], report: Callable[[Trial], None]
) -> tuple[LinearClassifier, ProbeResult]:
    train, test = found['train'], found['test']
    num_classes = max(len(train.classes), int(train.labels.max()) + 1)
    x, y = np.asarray(train.features), train.labels
    why_not = _why_not_validation(found)
    if why_not is None:
        validation = "the config's validation set"
        x_train, y_train = x, y
        x_val, y_val = np.asarray(found['val'].features), found['val'].labels
        x, y = np.concatenate([x, x_val]), np.concatenate([y, y_val])
    else:
        first, second = hold_out(y)
        validation = f'{len(second)} images of the train set, since {why_not}'
        x_train, y_train = x[first], y[first]
        x_val, y_val = x[second], y[second]
    regression = LogisticRegression(x_train, y_train, num_classes)
    trials = sweep(regression.fit, x_val, y_val, report)
    classifier = fit(x, y, num_classes, trials[0].c)
    linear = classifier.scores(test.features).argmax(dim=1).numpy()
    knn = knn_predictions(train.features, train.labels, test.features)
    return classifier, ProbeResult(
        linear_top1=100 * float((linear == test.labels).mean()),
        knn_top1=100 * float((knn == test.labels).mean()),
        c=trials[0].c,
        converged=classifier.converged,
        validation=validation,
        trials=trials,
        notes=_notes(found, trials),
    )


def _notes(found: dict[str, Features], trials: list[Trial]) -> list[str]:
    notes = []
    if found['test'].folder == found['train'].folder:
        notes.append(
            'the test set is the train set, so these are accuracies on '
            'training images: give test_dataloader other images.'
        )
    tried = sorted(trial.c for trial in trials)
    if trials[0].c in (tried[0], tried[-1]):
        notes.append(
            f'C={trials[0].c:.3g} is at the end of the range that was tried, '
            f'{tried[0]:.3g} to {tried[-1]:.3g}: a better one may lie beyond.'
        )
    return notes


def _why_not_validation(found: dict[str, Features]) -> str | None:
    """Say why ``C`` cannot be chosen on the config's validation set."""
    if 'val' not in found:
        return 'the config has no validation set'
    for split in ('train', 'test'):
        # A folder's name is a hash that includes the images.
        if found['val'].folder == found[split].folder:
            return f"the config's validation set is its {split} set"
    return None


def hold_out(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a tenth of each class, and at least one image."""
    values, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise ConfigError(
            f'Class number {values[counts.argmin()]} has only one training '
            'image, so none can be held out to choose C; give val_dataloader '
            'images that neither other set has.'
        )
    random = np.random.default_rng(0)
    held_out = np.zeros(len(labels), dtype=bool)
    for value, count in zip(values, counts, strict=True):
        rows = random.permutation(np.flatnonzero(labels == value))
        held_out[rows[: max(1, round(VALIDATION_SHARE * count))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _make_checkpoint(
    model: Any,
    cfg: Config,
    classifier: LinearClassifier,
    result: ProbeResult,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    with torch.no_grad():
        model.head.fc.weight.copy_(torch.tensor(classifier.weight))
        model.head.fc.bias.copy_(torch.tensor(classifier.bias))
    pipeline = pipeline_of(cfg.test_dataloader)
    meta = dict(
        clip=describe_model(model, pipeline, classes),
        mmclip_version=__version__,
        dataset_meta=dict(classes=classes),
        probe=asdict(result),
        versions=dict(torch=version('torch')),
    )
    return dict(meta=meta, state_dict=weights_to_cpu(model.state_dict()))
