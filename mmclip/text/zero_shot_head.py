"""A classification head whose weights are embeddings of class names."""

import torch.nn.functional as F
from mmpretrain.models.heads import LinearClsHead
from torch import Tensor

from mmclip.registry import MODELS


@MODELS.register_module()
class ZeroShotClsHead(LinearClsHead):
    """CLIP's zero-shot classifier, which can be fine-tuned like any other.

    The logits are the cosines of the image feature and the class embeddings,
    times CLIP's ``logit_scale``, plus SigLIP's ``logit_bias``. The scale is
    part of ``fc.weight``, and ``fc.bias`` is zero for CLIP, so fine-tuning
    starts from WiSE-FT's classifier (https://arxiv.org/abs/2109.01903,
    ``ClassificationHead`` in ``src/models/modeling.py``) and trains the same
    parameters.

    ``mmclip zero-shot`` computes the weights. The backbone must return
    the projected feature (set ``proj_dim`` if it has a projection). Arguments
    are those of mmpretrain's ``LinearClsHead``; ``in_channels`` is the width
    D of the joint space.
    """

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the last feature ``(B, D)``, with length one."""
        return F.normalize(feats[-1], dim=-1)
