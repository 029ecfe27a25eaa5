r"""CLIP ViT-L/14 at 336 px on ImageNet-1k, with less compute than FT-CLIP.

Source: that of clip-l-336.py, which this config changes. It combines choices
that others have published one by one. The combination has not been trained by
this project, and we know of no result.

    python3 tools/model_converters/openclip_to_mmcls.py \
        ViT-L-14-336 openai ViT-L-14-336px.pth
    bash tools/dist_train.sh configs/clip/clip-l-336_fast_in1k.py 8

What is computed less, and its source:

- Images have 224 px in epochs 1 to 25, and 336 px in the last five. FixRes
  (arXiv 1906.06423) trains at a lower resolution and tunes at that of the
  test; DeiT III (arXiv 2204.07118) does so with ViT-L. The position embedding
  stays that of 336 px, and is interpolated for 224.
- A quarter of the patches is dropped. PatchDropout (arXiv 2208.07220) and FLIP
  (arXiv 2212.00794) drop half and more.

And what is computed faster: bfloat16 by autocast (FT-CLIP: float16 by
DeepSpeed), pipelines that resize with other rounding (docs/data.md), and
batches of 60 on 8 GPUs instead of 20 on 24. docs/performance.md has the hours
that are counted, and what the first two cost on the demo's digits.
"""

_base_ = ['./clip-l-336.py']

model = dict(backbone=dict(patch_dropout=0.25))

seed, load, _, *rest = _base_.train_pipeline
crop = dict(type='mmclip.RandomResizedCrop', interpolation='bicubic')
small_images = [
    seed,
    dict(load, reduce_to=915),  # what the smallest crop needs
    dict(crop, scale=224),
    *rest,
]
whole_images = [seed, dict(load, reduce_to=1372), dict(crop, scale=336), *rest]
train_dataloader = dict(
    batch_size=60,
    sampler=dict(images_per_step=60 * 4),
    dataset=dict(pipeline=small_images),
)
optim_wrapper = dict(type='mmclip.BFloat16OptimWrapper')
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='SwitchRecipeHook',
        schedule=[dict(action_epoch=26, train_pipeline=whole_images)],
    ),
]
