"""Metrics that count what the published numbers of a data set count."""

from typing import Any

from mmengine.evaluator import Evaluator
from mmpretrain.evaluation import Accuracy

from mmclip.errors import DataError


def check_metrics(split: str, dataset: Any, evaluator: Evaluator) -> None:
    """Refuse an accuracy between all classes of a head where a set has some.

    Args:
        split (str): The name of the set, ``'val'`` or ``'test'``.
        dataset (Any): Such as ``mmclip.ImageNetR``, whose metainfo has
            ``own_classes``.
        evaluator (Evaluator): Its metrics.

    Raises:
        DataError: If one of them is mmpretrain's ``Accuracy``.
    """
    own = (getattr(dataset, 'metainfo', None) or {}).get('own_classes')
    if own and any(type(metric) is Accuracy for metric in evaluator.metrics):
        raise DataError(
            f'{type(dataset).__name__} has {len(own)} classes of its own, and '
            f'Accuracy of {split}_evaluator would choose between all of the '
            f"head: set {split}_evaluator.type='mmclip.SubsetAccuracy'."
        )
