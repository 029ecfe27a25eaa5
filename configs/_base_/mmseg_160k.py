"""mmsegmentation's runtime and 160,000 iterations, with mmclip's hooks."""

_base_ = [
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_160k.py',
]

default_hooks = dict(
    checkpoint=dict(
        type='mmclip.ReliableCheckpointHook',
        by_epoch=False,
        interval=16000,
        max_keep_ckpts=3,
        save_best='mIoU',
    ),
    strict_load=dict(type='mmclip.StrictLoadHook'),
    exact_resume=dict(type='mmclip.ExactResumeHook'),
    check_classes=dict(type='mmclip.CheckClassesHook'),
    check_schedule=dict(type='mmclip.CheckScheduleHook'),
    finite_loss=dict(type='mmclip.FiniteLossHook'),
    every_test_image=dict(type='mmclip.EveryTestImageHook'),
    interrupt=dict(type='mmclip.InterruptHook'),
    progress=dict(type='mmclip.ProgressHook'),
)
randomness = dict(seed=0)
