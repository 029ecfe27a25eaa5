"""Testing models beyond one data set."""

from mmclip.evaluation.evaluate import build_test_runner, evaluate
from mmclip.evaluation.real_accuracy import ReaLAccuracy
from mmclip.evaluation.subset_accuracy import SubsetAccuracy

__all__ = [
    'ReaLAccuracy',
    'SubsetAccuracy',
    'build_test_runner',
    'evaluate',
]
