"""Checkpoints: reading, converting, loading and exporting CLIP weights."""

from mmclip.checkpoint import schemes as _schemes  # registers the loaders
from mmclip.checkpoint.errors import CheckpointError
from mmclip.checkpoint.files import (
    read_checkpoint,
    read_state_dict,
    write_checkpoint,
)
from mmclip.checkpoint.pretrained_init import PretrainedCLIP
from mmclip.checkpoint.sources import convert_source

__all__ = [
    'CheckpointError',
    'PretrainedCLIP',
    'convert_source',
    'read_checkpoint',
    'read_state_dict',
    'write_checkpoint',
]
del _schemes
