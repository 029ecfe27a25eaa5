"""Accuracy among the classes of a data set that has some of the head's."""

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.evaluation import Accuracy

from mmclip.errors import DataError
from mmclip.registry import METRICS

LEFT_OUT = -1


@METRICS.register_module()
class SubsetAccuracy(Accuracy):
    """Accuracy of the best prediction among a data set's classes.

    If a data set has all classes of the head, this is mmpretrain's
    ``Accuracy``. If it has only some, the scores of the others are dropped
    first, as in the published evaluations of ImageNet-R and -A. Classes that
    count as one, as in ObjectNet, get the best of their scores. Images of
    other classes are left out, so that a shift can be compared with the same
    classes of ImageNet's validation set.

    Besides ``top1`` and so on it then reports ``images``, the number counted.

    Args:
        topk (int | Sequence[int]): Defaults to (1, 5).
        classes (Sequence[Sequence[int]] | None): Indices of the classes, in
            groups that count as one. Defaults to ``own_classes`` in the data
            set's metainfo, or to all if it has none.
        prefix (str | None): Prefix of the metrics' names. Defaults to
            ``accuracy``.

    Raises:
        ValueError: On computing, if no image is of these classes.
    """

    def __init__(
        self,
        topk: int | Sequence[int] = (1, 5),
        classes: Sequence[Sequence[int]] | None = None,
        prefix: str | None = None,
    ):
        super().__init__(topk=topk, prefix=prefix)
        self._classes = classes

    @property
    def classes(self) -> Sequence[Sequence[int]] | None:
        """The groups of classes; None for all."""
        if self._classes is not None:
            return self._classes
        return (self.dataset_meta or {}).get('own_classes')

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the scores ``(groups,)`` of each image.

        An image of another class is marked but kept, because results of
        several processes are cut to the length of the data set.
        """
        groups = self.classes
        if groups is None:
            return super().process(data_batch, data_samples)
        group_of = {c: i for i, group in enumerate(groups) for c in group}
        scores = torch.stack([sample['pred_score'] for sample in data_samples])
        scores = scores.float().cpu()[:, list(group_of)]
        index = torch.tensor(list(group_of.values())).expand_as(scores)
        best = scores.new_full((len(scores), len(groups)), -torch.inf)
        best.scatter_reduce_(1, index, scores, 'amax')
        for sample, row in zip(data_samples, best, strict=True):
            label = group_of.get(int(sample['gt_label']), LEFT_OUT)
            self.results.append(
                dict(pred_score=row.clone(), gt_label=torch.tensor([label]))
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the accuracy on images of these classes, in percent."""
        if self.classes is None:
            return super().compute_metrics(results)
        own = [r for r in results if int(r['gt_label']) != LEFT_OUT]
        if not own:
            raise DataError(
                f'None of the {len(results)} images belongs to the '
                f'{len(self.classes)} classes of SubsetAccuracy '
                f'({self.prefix!r}).'
            )
        return super().compute_metrics(own) | dict(images=float(len(own)))
