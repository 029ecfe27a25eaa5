"""What training and testing need beyond mmengine."""

from mmclip.engine.bf16_optim_wrapper import BFloat16OptimWrapper
from mmclip.engine.check_classes_hook import CheckClassesHook
from mmclip.engine.check_data_hook import CheckDataHook
from mmclip.engine.check_schedule_hook import CheckScheduleHook
from mmclip.engine.compile_hook import CompileHook
from mmclip.engine.every_test_image_hook import EveryTestImageHook
from mmclip.engine.exact_resume_hook import ExactResumeHook
from mmclip.engine.finite_loss_hook import FiniteLossHook, NonFiniteLossError
from mmclip.engine.fully_shard import FullyShardStrategy, StrategyRunner
from mmclip.engine.interrupt_hook import InterruptHook
from mmclip.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mmclip.engine.reliable_checkpoint_hook import ReliableCheckpointHook
from mmclip.engine.short_history_hook import ShortHistoryHook
from mmclip.engine.strict_load_hook import StrictLoadHook
from mmclip.engine.unfinished_validation_hook import UnfinishedValidationHook

__all__ = [
    'BFloat16OptimWrapper',
    'CheckClassesHook',
    'CheckDataHook',
    'CheckScheduleHook',
    'CompileHook',
    'EveryTestImageHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'FullyShardStrategy',
    'InterruptHook',
    'LayerDecayOptimWrapperConstructor',
    'NonFiniteLossError',
    'ReliableCheckpointHook',
    'ShortHistoryHook',
    'StrategyRunner',
    'StrictLoadHook',
    'UnfinishedValidationHook',
]
