default_scope = 'mmpretrain'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Written whole, deleted late, found again by --resume.
    checkpoint=dict(
        type='mmclip.ReliableCheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        save_best='auto',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='mmclip.VisualizationHook', enable=False),
    # A checkpoint that does not fit stops the run; mmengine only warns.
    strict_load=dict(type='mmclip.StrictLoadHook'),
    # A resumed run is the same as one that was never interrupted.
    exact_resume=dict(type='mmclip.ExactResumeHook'),
    # A shorter run whose schedule was left as it is may end in its warm-up.
    check_schedule=dict(type='mmclip.CheckScheduleHook'),
    # NaN in loss or gradients stops the run before it reaches the weights.
    finite_loss=dict(type='mmclip.FiniteLossHook'),
    # A class folder that one split lacks would shift its labels.
    check_classes=dict(type='mmclip.CheckClassesHook'),
    # Images that cannot be loaded are named before the first step.
    check_data=dict(type='mmclip.CheckDataHook'),
    # Evaluation stops at an image that its pipeline leaves out.
    every_test_image=dict(type='mmclip.EveryTestImageHook'),
    # Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP leave a checkpoint.
    interrupt=dict(type='mmclip.InterruptHook'),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

visualizer = dict(
    type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
)

log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)
