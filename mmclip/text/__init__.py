"""CLIP's text towers, class embeddings, and the models that use them."""

from mmclip.text.contrastive_classifier import ContrastiveClassifier
from mmclip.text.text_tower import OpenCLIPTextTower
from mmclip.text.zero_shot_head import ZeroShotClsHead

__all__ = ['ContrastiveClassifier', 'OpenCLIPTextTower', 'ZeroShotClsHead']
