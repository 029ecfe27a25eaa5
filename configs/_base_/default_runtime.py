default_scope = 'mmpretrain'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Writes checkpoints whole, so that --resume can use the newest.
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
    # Makes a resumed run equal to one that was never interrupted.
    exact_resume=dict(type='mmclip.ExactResumeHook'),
    # A run made shorter without its schedule may end in the warm-up.
    check_schedule=dict(type='mmclip.CheckScheduleHook'),
    # NaN in loss or gradients stops the run before it reaches the weights.
    finite_loss=dict(type='mmclip.FiniteLossHook'),
    # A class folder missing from one split would shift its labels.
    check_classes=dict(type='mmclip.CheckClassesHook'),
    # Reports images that cannot be loaded before the first step.
    check_data=dict(type='mmclip.CheckDataHook'),
    # Stops an evaluation whose pipeline skips an image.
    every_test_image=dict(type='mmclip.EveryTestImageHook'),
    # Saves a checkpoint on Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP.
    interrupt=dict(type='mmclip.InterruptHook'),
    # A progress bar, if log_level='WARNING' keeps the log from the screen.
    progress=dict(type='mmclip.ProgressHook'),
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
