"""What users import from mmclip.engine, which registers it."""

from mmclip.engine.checks.check_classes_hook import CheckClassesHook
from mmclip.engine.checks.check_data_hook import CheckDataHook
from mmclip.engine.checks.check_schedule_hook import CheckScheduleHook
from mmclip.engine.checks.every_test_image_hook import EveryTestImageHook
from mmclip.engine.checks.strict_load_hook import StrictLoadHook
from mmclip.engine.compile_hook import CompileHook
from mmclip.engine.distributed.fully_shard import (
    FullyShardStrategy,
    StrategyRunner,
)
from mmclip.engine.merge_tokens_hook import MergeTokensHook
from mmclip.engine.optim.bf16_optim_wrapper import BFloat16OptimWrapper
from mmclip.engine.optim.finite_loss_hook import (
    FiniteLossHook,
    NonFiniteLossError,
)
from mmclip.engine.optim.layer_decay import LayerDecayOptimWrapperConstructor
from mmclip.engine.progress_hook import ProgressHook
from mmclip.engine.resume.exact_resume_hook import ExactResumeHook
from mmclip.engine.resume.interrupt_hook import InterruptHook
from mmclip.engine.resume.reliable_checkpoint_hook import (
    ReliableCheckpointHook,
)

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
    'MergeTokensHook',
    'NonFiniteLossError',
    'ProgressHook',
    'ReliableCheckpointHook',
    'StrategyRunner',
    'StrictLoadHook',
]
