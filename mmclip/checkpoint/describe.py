"""``meta['clip']`` of checkpoints that come out of others."""

from collections.abc import Mapping
from typing import Any

from mmengine.runner import CheckpointLoader


def base_checkpoint(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """What a backbone's ``init_cfg`` loads; empty if that names no file.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it cannot be read.
    """
    path = (backbone.get('init_cfg') or {}).get('checkpoint')
    return (
        {} if path is None else CheckpointLoader.load_checkpoint(path, 'cpu')
    )


def carry_over(
    checkpoint: Mapping[str, Any], backbone: Mapping[str, Any], module: Any
) -> dict[str, Any]:
    """Describe a tower as it is now, and where it comes from.

    Args:
        checkpoint (Mapping): What the tower was loaded from.
        backbone (Mapping): The config of the backbone that it was loaded
            into, which may have another image size or no projection.
        module (nn.Module): That backbone.

    Returns:
        dict: With ``clip`` for the ``meta`` of a new checkpoint, which does
        not say what head it has; empty if the old one does not describe its
        tower.
    """
    clip = (checkpoint.get('meta') or {}).get('clip')
    if clip is None:
        return {}
    now = {k: v for k, v in backbone.items() if k != 'init_cfg'}
    now |= module.describe()  # numbers for names of presets, and defaults
    size = now.get('img_size', clip['img_size'])
    clip = {k: v for k, v in clip.items() if k != 'head'}
    return dict(clip=clip | dict(backbone=now, img_size=size))
