"""ImageNet-ReaL: accuracy by all correct labels of a validation image."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from mmclip.datasets.shifts import read_timm
from mmclip.errors import DataError
from mmclip.registry import METRICS

FILE_NAME = re.compile(r'ILSVRC2012_val_(\d{8})\.')


@METRICS.register_module()
class ReaLAccuracy(BaseMetric):
    """Accuracy by ReaL's labels: any of an image's labels is correct.

    Images without a ReaL label are left out. Source: arXiv 2006.07159,
    https://github.com/google-research/reassessed-imagenet. Besides ``top1``
    and so on (one of the best k is among the labels) it reports ``images``,
    the number counted.

    Args:
        topk (Sequence[int]): Defaults to (1, 5).
        labels (str | None): The published ``real.json``: a list of labels for
            each validation image, in the order of the file names. Defaults to
            the copy that comes with timm.
        prefix (str | None): Prefix of the metrics' names. Defaults to
            ``real``.

    Raises:
        ValueError: On computing, if an image's file name is not from
            ImageNet's validation set, or no image has a label.
    """

    default_prefix = 'real'

    def __init__(
        self,
        topk: Sequence[int] = (1, 5),
        labels: str | None = None,
        prefix: str | None = None,
    ):
        super().__init__(prefix=prefix)
        self.topk = tuple(topk)
        self.labels = _read_labels(labels)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the best classes and the labels of each image."""
        for sample in data_samples:
            best = sample['pred_score'].topk(max(self.topk)).indices.tolist()
            labels = self.labels[self._index(sample['img_path'])]
            self.results.append(dict(best=best, labels=labels))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the accuracy on images that have labels, in percent."""
        labelled = [r for r in results if r['labels']]
        if not labelled:
            raise DataError(
                f'ImageNet-ReaL has no label for any of {len(results)} images.'
            )
        metrics = dict(images=float(len(labelled)))
        for k in self.topk:
            right = [bool({*r['best'][:k]} & {*r['labels']}) for r in labelled]
            metrics[f'top{k}'] = 100 * sum(right) / len(right)
        return metrics

    def _index(self, path: str) -> int:
        """Find an image's place in the validation set by its file name."""
        match = FILE_NAME.search(Path(path).name)
        index = int(match[1]) - 1 if match else -1
        if not 0 <= index < len(self.labels):
            raise DataError(
                f'{path}: ImageNet-ReaL needs the original file names, '
                'ILSVRC2012_val_00000001.JPEG to '
                f'ILSVRC2012_val_{len(self.labels):08d}.JPEG.'
            )
        return index


def _read_labels(path: str | None) -> list[list[int]]:
    if path:
        return json.loads(Path(path).read_text())
    return json.loads(read_timm('imagenet_real_labels.json'))
