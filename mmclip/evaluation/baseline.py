"""The accuracy under a shift that ImageNet accuracy predicts."""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np

from mmclip.errors import DataError

# Matches timm's tags of models trained only on ImageNet-1k and not for
# robustness: ``a1_in1k``, ``in1k_384``. Other tags name more data
# (``_ft_in1k``, ``ns_jft_in1k``), AdvProp (``ap``), AugMix (``am``, ``ram``),
# or a teacher that may have seen more (``dist``, ``ssld``).
STANDARD_TAG = r'(?!(ap|am|ram|dist|ssld)_)([a-z0-9]+_)?in1k(_\d+)?'
# timm's tables: ImageNet's validation set (all of it, or the shift's classes)
# and the shift.
TABLES = {
    'imagenetv2-matched-frequency': (
        'results-imagenet.csv',
        'results-imagenetv2-matched-frequency.csv',
    ),
    'imagenet-sketch': ('results-imagenet.csv', 'results-sketch.csv'),
    'imagenet-r': ('results-imagenet-r-clean.csv', 'results-imagenet-r.csv'),
    'imagenet-a': ('results-imagenet-a-clean.csv', 'results-imagenet-a.csv'),
}


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A line fitted to the logits of standard models' accuracies.

    Attributes:
        slope (float): Slope of logit(shifted) over logit(ImageNet).
        intercept (float): Intercept of the same line.
        correlation (float): Pearson's r of the logits.
        models (int): Number of models.
    """

    slope: float
    intercept: float
    correlation: float
    models: int

    def predict(self, imagenet: float) -> float:
        """Predict accuracy under the shift from that on ImageNet's classes."""
        if not 0 < imagenet < 100:
            return imagenet  # the limit of every rising line
        z = self.slope * _logit(imagenet) + self.intercept
        return float(100 / (1 + np.exp(-z)))


def fit_baseline(imagenet: Path, shifted: Path) -> Baseline:
    """Fit a line to the logits of standard models' accuracies.

    Source: Taori et al. 2020, arXiv 2007.00644, section 3: effective
    robustness is accuracy under the shift beyond this line.

    Args:
        imagenet (Path): A table in timm's format, with columns ``model``
            (``ARCHITECTURE.TAG``) and ``top1``, in percent.
        shifted (Path): The same for the shifted set.

    Raises:
        FileNotFoundError: If a table is missing.
        DataError: If a table has other columns, fewer than three models
            remain, or accuracy falls as ImageNet accuracy rises.
    """
    on_imagenet, on_shifted = _read(imagenet), _read(shifted)
    pairs = [
        (on_imagenet[key], on_shifted[key])
        for key in on_imagenet
        if key in on_shifted
        and re.fullmatch(STANDARD_TAG, key[0].partition('.')[2])
    ]
    # 0 and 100 percent do not have a logit.
    pairs = [p for p in pairs if min(p) > 0 and max(p) < 100]
    if len(pairs) < 3:
        raise DataError(
            f'{shifted} and {imagenet.name} share {len(pairs)} models trained '
            'only on ImageNet-1k; a line needs three.'
        )
    x, y = _logit(np.array(pairs)).T
    slope, intercept = np.polyfit(x, y, 1)
    if slope <= 0:
        raise DataError(
            f'{shifted}: accuracy falls as that of {imagenet.name} rises '
            f'(slope {slope:.2f}), so there is no baseline to compare with.'
        )
    correlation = np.corrcoef(x, y)[0, 1]
    return Baseline(
        float(slope), float(intercept), float(correlation), len(pairs)
    )


def _logit(percent: float | np.ndarray) -> np.ndarray:
    p = np.asarray(percent, dtype=float) / 100
    return np.log(p / (1 - p))


def _read(path: Path) -> dict[tuple[str, str], float]:
    """Read top-1 by model and image size."""
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is missing; get it from the folder results/ of '
            "timm's repository, huggingface/pytorch-image-models."
        )
    with open(path, newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    if not rows or not {'model', 'top1'} <= set(rows[0]):
        raise DataError(
            f"{path} must have columns model and top1, as timm's tables do."
        )
    return {
        (r['model'], r.get('img_size', '')): float(r['top1']) for r in rows
    }
