r"""ViTPose on CLIP ViT-B/16 (OpenAI), COCO at 256x192 px, with mmpose.

Source: arXiv 2204.12484, mmpose's configs/body_2d_keypoint/topdown_heatmap/
coco/td-hm_ViTPose-base_8xb64-210e_coco-256x192.py, whose head, data and
schedule these are (75.7 AP there, with MAE's weights). Differences: CLIP's
class token, its position embeddings from 224 px, no padding of patches,
bfloat16. Not trained by this project.
Memory: docs/mmpose.md; 512 images per step, on 8 GPUs.

    bash tools/dist_train.sh configs/mmpose/clip-b16_vitpose_coco-256x192.py 8
    bash tools/dist_test.sh configs/mmpose/clip-b16_vitpose_coco-256x192.py \
        CHECKPOINT 8
"""

_base_ = (
    'mmpose::body_2d_keypoint/topdown_heatmap/coco/'
    'td-hm_ViTPose-base_8xb64-210e_coco-256x192.py'
)
custom_imports = dict(imports=['mmclip'])  # for inferencers' checkpoints

model = dict(
    data_preprocessor=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],  # CLIP's, 0..255
        std=[68.5005327, 66.6321579, 70.32316305],
    ),
    backbone=dict(
        _delete_=True,
        type='mmclip.CLIPVisionTransformer',
        arch='base',
        act='quick_gelu',
        img_size=(256, 192),
        patch_size=16,
        out_type='featmap',
        drop_path_rate=0.3,
        init_cfg=dict(
            type='mmclip.PretrainedCLIP',
            checkpoint='open_clip://ViT-B-16/openai',
        ),
    ),
    train_cfg=dict(compute_acc=False),  # NumPy's, which has no bfloat16
)

train_pipeline = [dict(type='mmclip.SeedSample'), *_base_.train_pipeline]
train_dataloader = dict(
    sampler=dict(type='mmclip.ResumableSampler'),
    dataset=dict(pipeline=train_pipeline),
)
optim_wrapper = dict(
    type='mmclip.BFloat16OptimWrapper',
    constructor='mmclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        layer_decay_rate=0.75,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        },
    ),
)
default_hooks = dict(
    checkpoint=dict(type='mmclip.ReliableCheckpointHook'),
    strict_load=dict(type='mmclip.StrictLoadHook'),
    exact_resume=dict(type='mmclip.ExactResumeHook'),
    check_schedule=dict(type='mmclip.CheckScheduleHook'),
    finite_loss=dict(type='mmclip.FiniteLossHook'),
    every_test_image=dict(type='mmclip.EveryTestImageHook'),
    interrupt=dict(type='mmclip.InterruptHook'),
    progress=dict(type='mmclip.ProgressHook'),
)
randomness = dict(seed=0)
