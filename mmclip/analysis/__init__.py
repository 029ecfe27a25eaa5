"""The cost of models, and comparisons with open_clip."""

from mmclip.analysis.complexity import Complexity, count_complexity

__all__ = ['Complexity', 'count_complexity']
