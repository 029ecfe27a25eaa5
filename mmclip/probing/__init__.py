"""Probes that measure the features of a frozen tower."""

from mmclip.probing.features import Features, extract_features
from mmclip.probing.knn import knn_predictions
from mmclip.probing.logistic import (
    LinearClassifier,
    LogisticRegression,
    fit,
)
from mmclip.probing.probe import ProbeResult, probe
from mmclip.probing.sweep import sweep

__all__ = [
    'Features',
    'LinearClassifier',
    'LogisticRegression',
    'ProbeResult',
    'extract_features',
    'fit',
    'knn_predictions',
    'probe',
    'sweep',
]
