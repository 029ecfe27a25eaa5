"""A check that metrics choose between a data set's own classes."""

from typing import Any

from mmengine.evaluator import Evaluator
from mmpretrain.evaluation import Accuracy

from mmclip.errors import DataError


def check_metrics(split: str, dataset: Any, evaluator: Evaluator) -> None:
    """Refuse ``Accuracy`` on a set that has only some of the head's classes.

    Args:
        split (str): The name of the set, ``'val'`` or ``'test'``.
        dataset (Any): The data set. The metainfo of ``mmclip.ImageNetR``, for
            example, has ``own_classes``.
        evaluator (Evaluator): Its metrics.

    Raises:
        DataError: If one of them is mmpretrain's ``Accuracy``.
    """
    own = (getattr(dataset, 'metainfo', None) or {}).get('own_classes')
    if own and any(type(metric) is Accuracy for metric in evaluator.metrics):
        raise DataError(
            f'{type(dataset).__name__} has only {len(own)} classes, but '
            f'Accuracy in {split}_evaluator would choose between all of the '
            f"head's: set {split}_evaluator.type='mmclip.SubsetAccuracy'."
        )
