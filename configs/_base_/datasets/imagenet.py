# ImageNet-1k in data/imagenet; the recipe adds pipelines and batch sizes.
data_root = 'data/imagenet'

train_dataloader = dict(
    num_workers=8,
    dataset=dict(type='mmclip.ImageNet', data_root=data_root, split='train'),
    sampler=dict(type='mmclip.ResumableSampler', shuffle=True),
)
val_dataloader = dict(
    num_workers=8,
    dataset=dict(type='mmclip.ImageNet', data_root=data_root, split='val'),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
# Chooses between all classes; on ImageNet-R, -A and ObjectNet between theirs.
val_evaluator = dict(type='mmclip.SubsetAccuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
