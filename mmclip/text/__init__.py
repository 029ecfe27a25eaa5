"""CLIP's text encoders (towers), class embeddings, and models using them."""

from mmclip.text.contrastive_classifier import ContrastiveClassifier
from mmclip.text.text_tower import OpenCLIPTextTower
from mmclip.text.zero_shot_head import ZeroShotClsHead

__all__ = ['ContrastiveClassifier', 'OpenCLIPTextTower', 'ZeroShotClsHead']
