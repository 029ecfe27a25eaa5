"""Models: backbones that hold CLIP's image towers, and CLIP's heads."""

# Whoever builds our models also loads and resumes checkpoints: mmengine's
# loaders are replaced by safe ones here, whichever runner it is.
import mmclip.checkpoint.schemes  # noqa: F401
from mmclip.models.clip_vit import CLIPVisionTransformer
from mmclip.models.contrastive_classifier import ContrastiveClassifier
from mmclip.models.lora import LoRAModel
from mmclip.models.open_clip_tower import OpenCLIPVisionTower
from mmclip.models.siglip_vit import SigLIPVisionTransformer
from mmclip.models.text_tower import OpenCLIPTextTower
from mmclip.models.zero_shot_head import ZeroShotClsHead

__all__ = [
    'CLIPVisionTransformer',
    'ContrastiveClassifier',
    'LoRAModel',
    'OpenCLIPTextTower',
    'OpenCLIPVisionTower',
    'SigLIPVisionTransformer',
    'ZeroShotClsHead',
]
