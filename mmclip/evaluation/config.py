"""Loading of configs that must have certain keys."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmclip.engine.config.load import load_config
from mmclip.errors import ConfigError
from mmclip.untrusted.rules import read_json

# Keys of which a run's config has none.
MODEL_CONFIG = {'embed_dim', 'vision_cfg', 'model_cfg', 'model_type'}


def load_config_with(
    needed: Sequence[str],
    path: str | Path,
    options: dict[str, Any] | None = None,
    work_dir: str | None = None,
) -> Config:
    """Load a config that must have certain top-level keys."""
    _refuse_model_config(Path(path))
    cfg = load_config(path, options, work_dir)
    missing = [key for key in needed if cfg.get(key) is None]
    if missing:
        raise ConfigError(
            f'{path} has no {" and no ".join(missing)}: add it, as in '
            'configs/clip/clip-l-336.py.'
        )
    train = cfg.get('train_cfg') or {}
    if {'max_epochs', 'max_iters'} <= {k for k in train if train[k]}:
        raise ConfigError(
            f'{path}: train_cfg has both max_epochs={train["max_epochs"]} and '
            f'max_iters={train["max_iters"]}, one of them inherited. Write '
            'train_cfg=dict(_delete_=True, ...) with only what it needs.'
        )
    return cfg


def _refuse_model_config(path: Path) -> None:
    """Refuse the JSON that describes a model to open_clip or transformers."""
    if path.suffix == '.json' and path.is_file():
        found = read_json(path).keys() & MODEL_CONFIG
        if found:
            raise ConfigError(
                f'{path} is a model config of open_clip or Hugging Face (it '
                f'has {min(found)}), not the config of a run. Convert its '
                f'weights: mmclip convert {path} FILE OUT.pth.'
            )
