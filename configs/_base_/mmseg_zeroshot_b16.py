"""CLIP ViT-B/16 as a zero-shot segmentor, which slides over images."""

_base_ = 'mmseg::_base_/default_runtime.py'

custom_imports = dict(imports=['mmclip'])  # for inferencers' checkpoints
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[122.7709383, 116.7460125, 104.09373615],  # CLIP's, 0..255
        std=[68.5005327, 66.6321579, 70.32316305],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='mmclip.CLIPVisionTransformer',
        arch='base',
        act='quick_gelu',
        img_size=224,
        patch_size=16,
        proj_dim=512,
        out_type='featmap',
        dense='sclip',  # or 'maskclip', 'clearclip'
    ),
    decode_head=dict(type='mmclip.ZeroShotSegHead', in_channels=512),
    test_cfg=dict(mode='slide', crop_size=(224, 224), stride=(112, 112)),
)
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    strict_load=dict(type='mmclip.StrictLoadHook'),
    check_classes=dict(type='mmclip.CheckClassesHook'),
    every_test_image=dict(type='mmclip.EveryTestImageHook'),
    visualization=dict(type='SegVisualizationHook'),
)
