"""mmdetection's runtime, with mmclip's hooks."""

_base_ = 'mmdet::_base_/default_runtime.py'

default_hooks = dict(
    checkpoint=dict(
        type='mmclip.ReliableCheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        save_best='auto',
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
