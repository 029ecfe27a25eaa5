"""Accuracy among the classes that a data set has."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy

from mmclip.evaluation.subset_accuracy import SubsetAccuracy
from mmclip.registry import HOOKS


@HOOKS.register_module()
class OwnClassesHook(Hook):
    """Count among a data set's own classes where it has only some.

    ``mmclip.ImageNetR``, ``ImageNetA`` and ``ObjectNet`` have some of the
    classes of a head. mmpretrain's ``Accuracy`` would choose between all,
    which is no published number; it is replaced by
    :class:`mmclip.evaluation.SubsetAccuracy`, with a warning. Other metrics
    stay as they are.
    """

    def before_val(self, runner: Runner) -> None:
        """See to the metrics of the validation set."""
        _see_to(runner, runner.val_loop, 'val')

    def before_test(self, runner: Runner) -> None:
        """See to the metrics of the test set.

        Raises:
            ValueError: If an ``Accuracy`` has thresholds, which
                ``SubsetAccuracy`` has not.
        """
        _see_to(runner, runner.test_loop, 'test')


def _see_to(runner: Runner, loop: Any, split: str) -> None:
    dataset = loop.dataloader.dataset
    metainfo = getattr(dataset, 'metainfo', {})
    if not metainfo.get('own_classes'):
        return
    metrics = loop.evaluator.metrics
    for i, metric in enumerate(metrics):
        if type(metric) is Accuracy:
            metrics[i] = _among_own(metric, metainfo, split)
            runner.logger.warning(  # which shows the same line once
                f'{type(dataset).__name__} has '
                f'{len(metainfo["own_classes"])} classes of its own, and '
                f'Accuracy of {split}_evaluator would choose between all of '
                'the head: mmclip.SubsetAccuracy takes its place. Set '
                f"{split}_evaluator=dict(type='mmclip.SubsetAccuracy') to "
                'say so.'
            )


def _among_own(
    metric: Accuracy, metainfo: dict[str, Any], split: str
) -> SubsetAccuracy:
    if metric.thrs != (0.0,):
        raise ValueError(
            f'Accuracy of {split}_evaluator has thrs={metric.thrs}, and the '
            f'{split} set has {len(metainfo["own_classes"])} classes of its '
            'own, for which there are no thresholds; set '
            f"{split}_evaluator=dict(type='mmclip.SubsetAccuracy')."
        )
    among_own = SubsetAccuracy(topk=metric.topk, prefix=metric.prefix)
    among_own.dataset_meta = metainfo
    return among_own
