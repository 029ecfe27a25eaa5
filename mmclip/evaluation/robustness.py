"""Accuracy on ImageNet and on those of its shifts that are present."""

import copy
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import isdir
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmclip.datasets.shifts import OwnClasses
from mmclip.engine.config.build import naming_the_config
from mmclip.errors import ArgumentError, ConfigError
from mmclip.evaluation.baseline import Baseline
from mmclip.evaluation.evaluate import evaluate

NUM_CLASSES = 1000
IMAGENET, REAL = 'imagenet', 'imagenet-real'
# For each set, its type, and the folders below the data root where its
# archive or other tools put the class folders.
SETS: dict[str, tuple[str, tuple[str, ...]]] = {
    IMAGENET: (
        'ImageNetVal',
        ('imagenet/val', 'imagenet/val_in_folder', 'ILSVRC2012/val'),
    ),
    **{
        f'imagenetv2-{variant}': (
            'ImageNetV2',
            (
                f'imagenetv2-{variant}-format-val',
                f'imagenetv2/imagenetv2-{variant}-format-val',
                f'imagenetv2-{variant}/imagenetv2-{variant}-format-val',
                f'ImageNetV2-{variant}',
                f'imagenetv2-{variant}',
            ),
        )
        for variant in ('matched-frequency', 'threshold0.7', 'top-images')
    },
    'imagenet-r': ('ImageNetR', ('imagenet-r/imagenet-r', 'imagenet-r')),
    'imagenet-a': ('ImageNetA', ('imagenet-a/imagenet-a', 'imagenet-a')),
    'imagenet-sketch': (
        'ImageNetSketch',
        ('sketch', 'imagenet-sketch/sketch', 'imagenet-sketch'),
    ),
    'objectnet': (
        'ObjectNet',
        (
            'objectnet-1.0/images',
            'objectnet/objectnet-1.0/images',
            'objectnet/images',
        ),
    ),
}
NAMES = (IMAGENET, REAL, *(name for name in SETS if name != IMAGENET))
OWN_IMAGENETS = ('ImageNet', 'mmpretrain.ImageNet', 'mmclip.ImageNet')


@dataclasses.dataclass(frozen=True)
class Result:
    """Accuracy on one set, in percent.

    Attributes:
        name (str): Name of the set.
        images (int): Number of images counted.
        classes (int): Number of classes that the model chooses between.
        found (int): Number of them that have images.
        top1 (float): Top-1 accuracy.
        top5 (float): Top-5 accuracy.
        imagenet (float | None): Top-1 on the images of the same classes in
            ImageNet's validation set, choosing between these classes; None if
            that was not evaluated, or is this set.
        predicted (float | None): Top-1 of a standard model with the same
            ``imagenet``, if a baseline was given.
    """

    name: str
    images: int
    classes: int
    found: int
    top1: float
    top5: float
    imagenet: float | None = None
    predicted: float | None = None

    @property
    def difference(self) -> float | None:
        """Top-1 minus that on the same classes of ImageNet."""
        return None if self.imagenet is None else self.top1 - self.imagenet

    @property
    def effective_robustness(self) -> float | None:
        """Top-1 minus what the baseline predicts (arXiv 2007.00644)."""
        return None if self.predicted is None else self.top1 - self.predicted


def find_sets(
    cfg: Config, data_root: str | Path, names: Sequence[str] = NAMES
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Look for the data sets.

    ImageNet may also be where the config's own test set is. ImageNet-ReaL
    uses ImageNet's images.

    Args:
        cfg (Config): The config of the model.
        data_root (str | Path): The folder that holds the sets' folders.
        names (Sequence[str]): Names of sets, from ``NAMES``. Defaults to all.

    Returns:
        tuple[dict, dict]: The config of each set found; for each of the
        others, the folders that were searched.

    Raises:
        ArgumentError: If there is no such name.
    """
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise ArgumentError(
            f'There is no data set {unknown[0]!r}; choose from '
            f'{", ".join(NAMES)}.'
        )
    found, missing = {}, {}
    for name in (name for name in NAMES if name in names):
        kind, folders = SETS[IMAGENET if name == REAL else name]
        tried = [Path(data_root).expanduser() / folder for folder in folders]
        there = [path for path in tried if _has_folders(path)]
        own = _own_imagenet(cfg) if name in (IMAGENET, REAL) else None
        if there:
            found[name] = dict(type=f'mmclip.{kind}', data_root=str(there[0]))
        elif own and isdir(own[1]):
            found[name] = own[0]
        else:
            missing[name] = [*map(str, tried), *([own[1]] if own else [])]
    return found, missing


def check_head(runner: Runner) -> None:
    """Refuse a model that does not classify into ImageNet-1k's classes.

    Raises:
        ConfigError: If its head has another number of classes, or none.
    """
    model: Any = runner.model
    model = model.module if is_model_wrapper(model) else model
    head = getattr(model, 'head', None)
    num_classes = getattr(head, 'num_classes', None)
    if num_classes != NUM_CLASSES:
        raise ConfigError(
            f'The head of this model ({type(head).__name__}) has '
            f'{num_classes} classes, but the shifts have the {NUM_CLASSES} '
            'labels of ImageNet-1k: use a model with '
            f'model.head.num_classes={NUM_CLASSES}.'
        )


def evaluate_robustness(
    runner: Runner,
    sets: dict[str, dict[str, Any]],
    baselines: dict[str, Baseline] | None = None,
) -> Iterator[Result]:
    """Evaluate a runner's model on one set after another.

    Images pass through the config's test pipeline, in batches of its test
    dataloader. All sets are listed before the first is evaluated, so that
    errors in any of them show at once. One pass over ImageNet's images serves
    ImageNet, the classes of each shift, and ReaL.

    Args:
        runner (Runner): From :func:`build_test_runner`, with its weights.
        sets (dict): The sets that :func:`find_sets` found.
        baselines (dict | None): Baselines by name of the set. Defaults to
            none.

    Yields:
        Result: The result of each set, as soon as it is there.
    """
    loaded = _load(runner.cfg, sets)
    on_imagenet = _evaluate_imagenet(runner, loaded)
    for one in loaded:
        if one.of_imagenet:
            metrics = on_imagenet
        else:
            runner.logger.info(f'{one.name}: {one.num_images} images')
            metrics = evaluate(runner, one.loader, one.metric(one.name))
        yield _result(one, metrics, on_imagenet, baselines or {})


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """A data set whose images are listed."""

    name: str
    loader: DataLoader

    @property
    def of_imagenet(self) -> bool:
        return self.name in (IMAGENET, REAL)

    @property
    def dataset(self) -> Any:
        return self.loader.dataset

    @property
    def num_images(self) -> int:
        return len(self.dataset)

    @property
    def own_classes(self) -> OwnClasses | None:
        return self.dataset.metainfo.get('own_classes')

    @property
    def labels(self) -> set[int]:
        return set(map(int, self.dataset.get_gt_labels()))

    def metric(self, prefix: str) -> dict[str, Any]:
        kind = 'mmclip.SubsetAccuracy'
        return dict(type=kind, classes=self.own_classes, prefix=prefix)


def _load(cfg: Config, sets: dict[str, dict[str, Any]]) -> list[_Loaded]:
    loaders: dict[str, DataLoader] = {}
    for name, dataset in sets.items():
        if name == REAL and IMAGENET in loaders:
            loaders[name] = loaders[IMAGENET]
            continue
        config = copy.deepcopy(cfg.test_dataloader)
        pipeline = config.dataset.pipeline
        config.dataset = {**dataset, 'pipeline': pipeline}
        config.persistent_workers = False  # or the workers of all sets stay
        with naming_the_config(cfg):
            loaders[name] = Runner.build_dataloader(config)
    return [_Loaded(name, loader) for name, loader in loaders.items()]


def _evaluate_imagenet(
    runner: Runner, loaded: list[_Loaded]
) -> dict[str, float]:
    """Compute all that needs ImageNet's validation set, in one pass."""
    images = next((one for one in loaded if one.of_imagenet), None)
    if images is None:
        return {}
    metrics: list[dict] = []
    for one in loaded:
        if one.name == REAL:
            metrics.append(dict(type='mmclip.ReaLAccuracy', prefix=REAL))
        elif one.name == IMAGENET:
            metrics.append(one.metric(IMAGENET))
        elif images.name == IMAGENET and one.own_classes:
            if images.labels & {c for own in one.own_classes for c in own}:
                metrics.append(one.metric(_same_classes(one)))
            else:  # ImageNet is incomplete
                runner.logger.warning(
                    f'ImageNet in {images.dataset.data_root} has no image of '
                    f'the classes of {one.name}, so they are not compared.'
                )
    runner.logger.info(f'{images.name}: {images.num_images} images')
    return evaluate(runner, images.loader, metrics)


def _same_classes(one: _Loaded) -> str:
    """Return the prefix of ImageNet's metrics to compare a set with."""
    return f'{one.name}-classes' if one.own_classes else IMAGENET


def _result(
    one: _Loaded,
    metrics: dict[str, float],
    on_imagenet: dict[str, float],
    baselines: dict[str, Baseline],
) -> Result:
    compared = predicted = None
    if not one.of_imagenet:
        compared = on_imagenet.get(f'{_same_classes(one)}/top1')
        if one.name in baselines and compared is not None:
            predicted = baselines[one.name].predict(compared)
    groups = one.own_classes or [(i,) for i in range(NUM_CLASSES)]
    labels = one.labels
    return Result(
        one.name,
        images=int(metrics.get(f'{one.name}/images', one.num_images)),
        classes=len(groups),
        found=sum(not labels.isdisjoint(group) for group in groups),
        top1=metrics[f'{one.name}/top1'],
        top5=metrics[f'{one.name}/top5'],
        imagenet=compared,
        predicted=predicted,
    )


def _own_imagenet(cfg: Config) -> tuple[dict[str, Any], str] | None:
    """Return the config's own test set and folder, if it is ImageNet."""
    dataset = cfg.test_dataloader.dataset
    if dataset.type not in OWN_IMAGENETS:
        return None
    prefix = dataset.get('data_prefix') or dataset.get('split', '')
    if isinstance(prefix, dict):
        prefix = prefix.get('img_path', '')
    return dataset, os.path.join(dataset.get('data_root', ''), prefix)


def _has_folders(path: Path) -> bool:
    return path.is_dir() and any(
        child.is_dir() and not child.name.startswith('.')
        for child in path.iterdir()
    )
