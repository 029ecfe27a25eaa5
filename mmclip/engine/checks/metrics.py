"""A check that metrics choose between a data set's own classes."""

from typing import Any

from mmengine.evaluator import Evaluator

from mmclip.errors import DataError
from mmclip.registry import METRICS


def check_metrics(split: str, dataset: Any, evaluator: Evaluator) -> None:
    """Refuse mmpretrain's metrics on a set with some of the head's classes.

    None of them knows ``own_classes``, nor does what derives from them, except
    :class:`mmclip.evaluation.SubsetAccuracy`. Metrics of others may.

    Args:
        split (str): The name of the set, ``'val'`` or ``'test'``.
        dataset (Any): The data set. The metainfo of ``mmclip.ImageNetR``, for
            example, has ``own_classes``.
        evaluator (Evaluator): Its metrics.

    Raises:
        DataError: If one of them would choose between all classes.
    """
    own = (getattr(dataset, 'metainfo', None) or {}).get('own_classes')
    if not own:
        return
    fits = METRICS.get('SubsetAccuracy')  # from a room above this one
    for metric in evaluator.metrics:
        modules = [base.__module__ for base in type(metric).__mro__]
        theirs = any(module.startswith('mmpretrain.') for module in modules)
        if theirs and not isinstance(metric, fits):
            raise DataError(
                f'{type(dataset).__name__} has only {len(own)} classes, but '
                f'{type(metric).__name__} in {split}_evaluator would choose '
                f"between all of the head's: set {split}_evaluator.type="
                "'mmclip.SubsetAccuracy'."
            )
