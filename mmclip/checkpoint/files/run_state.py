"""Run state in checkpoints, without what could execute or delete anything.

mmengine executes configs that it finds in a checkpoint, and deletes files that
the checkpoint names as older checkpoints.
"""

import re
from typing import Any

from mmclip.untrusted.rules import is_finite, is_whole

# Executed as Python: by Runner.resume, and by the Inferencers.
_EXECUTED = dict(meta='config', runtime_info='cfg')


def forget_choices(checkpoint: dict[str, Any]) -> None:
    """Remove from a run's state what could act on anything outside of it.

    Configs that mmengine would execute are removed, and so are scores and
    checkpoint numbers that are not numbers. Paths of earlier checkpoints are
    reduced to names, if a run could have made them; the hook that deletes
    checkpoints knows which are its own.

    Args:
        checkpoint (dict): The checkpoint as it was read; changed in place.
    """
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        meta.pop(_EXECUTED['meta'], None)
    hub = checkpoint.get('message_hub')
    infos = hub.get('runtime_info') if isinstance(hub, dict) else None
    if not isinstance(infos, dict):
        return
    infos.pop(_EXECUTED['runtime_info'], None)
    for key in [key for key in infos if isinstance(key, str)]:
        if key.startswith('best_score'):
            if not is_finite(_plain(infos[key])):
                del infos[key]
        elif key == 'keep_ckpt_ids':
            infos[key] = [i for i in _listed(infos[key]) if is_step(i)]
        elif key.startswith('best_ckpt') or key == 'last_ckpt':
            name = _name(infos[key])
            if name is None or (key != 'last_ckpt' and name[:5] != 'best_'):
                del infos[key]
            else:
                infos[key] = name


def is_step(value: Any) -> bool:
    """Return whether a value can be a number of epochs or iterations."""
    return is_whole(value, 0, 10**15)


def _plain(value: Any) -> Any:
    """Turn a number of numpy or torch into Python's; keep other values."""
    return value.item() if getattr(value, 'ndim', None) == 0 else value


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _name(path: Any) -> str | None:
    """Return the last part of a path, if it is an ordinary file name."""
    name = re.split(r'[/\\]', path)[-1] if isinstance(path, str) else ''
    return (
        name
        if re.fullmatch(r'[^.\x00-\x1f][^\x00-\x1f]{0,254}', name)
        else None
    )
