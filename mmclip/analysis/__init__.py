"""What models cost."""

from mmclip.analysis.complexity import Complexity, count_complexity

__all__ = ['Complexity', 'count_complexity']
