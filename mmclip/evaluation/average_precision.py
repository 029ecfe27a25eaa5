"""Average precision, for images that may have several labels, or none."""

from typing import Any

import mmpretrain.evaluation
import numpy as np
import torch
from torch import Tensor

from mmclip.registry import METRICS

RESAMPLES = 1000
CHUNK = 2**22  # counts of images in memory at once


@METRICS.register_module()
class AveragePrecision(mmpretrain.evaluation.AveragePrecision):
    """mmpretrain's ``multi-label/mAP``, over the classes that occur.

    mmpretrain counts a class without a positive image as 0, although nothing
    is known of it; here it is left out of the mean. Images with equal scores
    count together, so their order makes no difference.

    Args:
        **kwargs: As in mmpretrain's ``AveragePrecision``; with
            ``average=None``, such a class has nan.
    """

    def compute_metrics(self, results: list[dict]) -> dict[str, Any]:
        """Compute it in percent."""
        found = 100 * average_precision(
            torch.stack([result['pred_score'] for result in results]),
            torch.stack([result['gt_score'] for result in results]) == 1,
        )
        if self.average is None:
            return dict(AP_classwise=found.tolist())
        return dict(mAP=found.nanmean().item())


def average_precision(
    scores: Tensor, targets: Tensor, counts: Tensor | None = None
) -> Tensor:
    """Compute the average precision of each class.

    It is the mean of the precisions at the score of each positive image, as
    in scikit-learn's ``average_precision_score``.

    Args:
        scores (Tensor): ``(N, K)``.
        targets (Tensor): Which classes each image has, ``(N, K)`` booleans.
        counts (Tensor | None): How often each image counts, ``(R, N)``, for R
            results at once. Defaults to None: once.

    Returns:
        Tensor: ``(K,)``, or ``(R, K)`` with counts, float64, from 0 to 1; nan
        for a class without a positive image.
    """
    if counts is None:
        once = torch.ones(1, len(scores), device=scores.device)
        return average_precision(scores, targets, once)[0]
    counts = counts.double()
    found = []
    for score, target in zip(scores.T, targets.T, strict=True):
        score, order = score.sort(descending=True)
        ends = torch.ones_like(score, dtype=torch.bool)
        ends[:-1] = score[:-1] > score[1:]
        # Of each image, the last one with the same score.
        group = ends.cumsum(0) - ends.long()
        last = ends.nonzero()[:, 0][group]
        counted = counts[:, order]
        positive = counted * target[order]
        hits = positive.cumsum(1)[:, last]
        precision = hits / counted.cumsum(1)[:, last].clamp(min=1)
        found.append((positive * precision).sum(1) / positive.sum(1))
    return torch.stack(found, dim=1)


def resampled_means(scores: Tensor, targets: Tensor, seed: int = 0) -> Tensor:
    """Compute the mean average precision of bootstrap samples of the images.

    Each of 1,000 samples has N images, drawn with replacement. The same seed
    draws the same images, so that two classifiers can be compared in pairs.

    Args:
        scores (Tensor): ``(N, K)``.
        targets (Tensor): Which classes each image has, ``(N, K)`` booleans.
        seed (int): Of the draws. Defaults to 0.

    Returns:
        Tensor: ``(1000,)``, from 0 to 1; nan for samples without a positive
        image of any class.
    """
    number = len(scores)
    random = np.random.default_rng(seed)
    size = max(1, CHUNK // number)
    means = []
    for start in range(0, RESAMPLES, size):
        draws = min(size, RESAMPLES - start)
        counts = random.multinomial(number, [1 / number] * number, draws)
        found = average_precision(scores, targets, torch.tensor(counts))
        means.append(found.nanmean(dim=1))
    return torch.cat(means)
