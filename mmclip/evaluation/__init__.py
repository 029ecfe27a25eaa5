"""Testing models beyond one data set."""

from mmclip.evaluation.evaluate import build_test_runner, evaluate

__all__ = ['build_test_runner', 'evaluate']
