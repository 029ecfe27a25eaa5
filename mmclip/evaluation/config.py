"""Loading of configs that must have certain keys."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmclip.engine.config.load import load_config
from mmclip.errors import ConfigError


def load_config_with(
    needed: Sequence[str],
    path: str | Path,
    options: dict[str, Any] | None = None,
    work_dir: str | None = None,
) -> Config:
    """Load a config that must have certain top-level keys."""
    cfg = load_config(path, options, work_dir)
    missing = [key for key in needed if cfg.get(key) is None]
    if missing:
        raise ConfigError(
            f'{path} has no {" and no ".join(missing)}: add it, as in '
            'configs/clip/clip-l-336.py.'
        )
    return cfg
