"""Classifiers on the features of a frozen CLIP, from few images or many.

Each method is a :class:`.method.Method`. Shapes: N images, K classes, C
channels before the projection into CLIP's joint space, D after it.
"""

from mmclip.few_shot import heads as _heads  # registers them
from mmclip.few_shot import several_labels as _several_labels  # its head
from mmclip.few_shot.linear_probe import LinearProbe, TextProbe
from mmclip.few_shot.lp_plus_plus import LPPlusPlus
from mmclip.few_shot.method import Method
from mmclip.few_shot.nearest_neighbours import NearestNeighbours
from mmclip.few_shot.prolip import ProLIP
from mmclip.few_shot.tip_adapter import TipAdapter, TipAdapterF
from mmclip.few_shot.zero_shot import ZeroShot

METHODS: tuple[Method, ...] = (
    ZeroShot(),
    NearestNeighbours(),
    LinearProbe(),
    TextProbe(),
    TipAdapter(),
    TipAdapterF(),
    LPPlusPlus(),
    ProLIP(),
)

__all__ = ['METHODS', 'Method']
del _heads, _several_labels
