"""Testing of models on several data sets."""

from mmclip.evaluation.average_precision import AveragePrecision
from mmclip.evaluation.evaluate import (
    build_test_runner,
    evaluate,
    tell_classes,
)
from mmclip.evaluation.real_accuracy import ReaLAccuracy
from mmclip.evaluation.subset_accuracy import SubsetAccuracy
from mmclip.evaluation.visualization_hook import VisualizationHook

__all__ = [
    'AveragePrecision',
    'ReaLAccuracy',
    'SubsetAccuracy',
    'VisualizationHook',
    'build_test_runner',
    'evaluate',
    'tell_classes',
]
