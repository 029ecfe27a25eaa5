"""What users import from mmclip.models, which registers it."""

from mmclip.models.clip_vit import CLIPVisionTransformer
from mmclip.models.library_towers.open_clip_tower import OpenCLIPVisionTower
from mmclip.models.library_towers.timm_tower import TimmVisionTower
from mmclip.models.lora import LoRAModel
from mmclip.models.necks.simple_feature_pyramid import SimpleFeaturePyramid
from mmclip.models.siglip_vit import SigLIPVisionTransformer
from mmclip.models.token_merging import merge_tokens

__all__ = [
    'CLIPVisionTransformer',
    'LoRAModel',
    'OpenCLIPVisionTower',
    'SigLIPVisionTransformer',
    'SimpleFeaturePyramid',
    'TimmVisionTower',
    'merge_tokens',
]
