"""Backbones in mmpose, as users meet them."""

VITPOSE = 'mmpose/clip-b16_vitpose_coco-256x192'
# As the config has it, on a rate at which weights move.
QUICK = """
param_scheduler = [dict(type='ConstantLR', factor=1.0, end=99, by_epoch=False)]
train_cfg = dict(max_epochs=2, val_interval=1)
train_dataloader['dataset'] = dict(indices=4)
default_hooks['checkpoint'] = dict(
    interval=1, max_keep_ckpts=3, save_best='auto', rule=None
)
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
"""
INFER = """
from mmpose.apis import Pose2DInferencer  # and nothing of mmclip
infer = Pose2DInferencer('small.py', 'whole/epoch_2.pth', device='cpu',
                         det_model='whole_image')
(found,) = infer('data/coco/val2017/000000000000.jpg')
print('points', len(found['predictions'][0][0]['keypoints']))
"""


def test_training_resume_best_and_inference(run, ran):
    small = run(VITPOSE, QUICK)
    whole, moved = small.resumes('epoch', 1, 2)
    assert len(moved) > len(whole) / 2
    compared = f'exact resume, bf16 with EMA: 0 of {len(whole)} tensors differ'
    ran('mmpose', 'ViTPose', compared)

    best = [*(small.folder / 'whole').glob('best_coco_AP_*.pth')]
    assert len(best) == 1
    ran('mmpose', 'ViTPose', "save_best='auto'")

    assert 'points 17' in small('-c', INFER)
    ran('mmpose', 'ViTPose', 'Pose2DInferencer without importing mmclip')

    small.test('whole/epoch_2.pth', '--show-dir', 'pictures')
    assert len([*small.folder.glob('pictures/**/*.jpg')]) == 4
    ran('mmpose', 'ViTPose', 'test --show-dir')
