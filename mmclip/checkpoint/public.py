"""What users import from mmclip.checkpoint, which registers it."""

from mmclip.checkpoint import schemes as _schemes  # registers the loaders
from mmclip.checkpoint.files.reading import (
    Weights,
    open_weights,
    read_checkpoint,
    read_state_dict,
)
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.checkpoint.pretrained import PretrainedCLIP
from mmclip.checkpoint.towers.sources import convert_source
from mmclip.errors import CheckpointError

__all__ = [
    'CheckpointError',
    'PretrainedCLIP',
    'Weights',
    'convert_source',
    'open_weights',
    'read_checkpoint',
    'read_state_dict',
    'write_checkpoint',
]
del _schemes
