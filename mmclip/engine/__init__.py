"""What training and testing need beyond mmengine."""

from mmclip.engine.bf16_optim_wrapper import BFloat16OptimWrapper
from mmclip.engine.strict_load_hook import StrictLoadHook

__all__ = ['BFloat16OptimWrapper', 'StrictLoadHook']
