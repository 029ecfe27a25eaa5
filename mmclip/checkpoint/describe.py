"""``meta['clip']`` of checkpoints that come out of others."""

from collections.abc import Mapping
from typing import Any


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
        dict: With ``clip`` for the ``meta`` of a new checkpoint; empty if
        the old one does not describe its tower.
    """
    clip = (checkpoint.get('meta') or {}).get('clip')
    if clip is None:
        return {}
    now = {k: v for k, v in backbone.items() if k != 'init_cfg'}
    now |= module.describe()  # numbers for names of presets, and defaults
    size = now.get('img_size', clip['img_size'])
    return dict(clip=clip | dict(backbone=now, img_size=size))
