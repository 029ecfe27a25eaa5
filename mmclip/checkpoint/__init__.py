"""Checkpoints: reading, converting and loading CLIP weights."""

from mmclip.checkpoint import schemes as _schemes  # registers the loaders
from mmclip.checkpoint.errors import CheckpointError
from mmclip.checkpoint.files import (
    read_checkpoint,
    read_state_dict,
    write_checkpoint,
)
from mmclip.checkpoint.from_open_clip import convert_open_clip
from mmclip.checkpoint.pretrained_init import PretrainedCLIP

__all__ = [
    'CheckpointError',
    'PretrainedCLIP',
    'convert_open_clip',
    'read_checkpoint',
    'read_state_dict',
    'write_checkpoint',
]
del _schemes
