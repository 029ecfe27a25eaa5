"""Pictures of predictions, drawn by the hook of the config's package."""

from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import HOOKS

from mmclip.engine.config.scopes import CLASSIFYING, scope_of
from mmclip.errors import ConfigError

OF_CLASSIFIERS = dict(type='mmclip.VisualizationHook')


def show_predictions(
    cfg: Config,
    *,
    folder: str | Path | None = None,
    show: bool = False,
    wait_time: float = 2,
    interval: int = 1,
) -> None:
    """Turn on ``default_hooks.visualization`` of a config, for testing.

    Every package has its own hook, with its own names for the switch and the
    folder. mmseg's writes to the visualizer's folder.

    Args:
        cfg (Config): The config, changed in place.
        folder (str | Path | None): Where pictures go; None to write none.
        show (bool): Whether to show them in a window. Defaults to False.
        wait_time (float): Seconds that a window stays open. Defaults to 2.
        interval (int): Draw every Nth image, in mmseg every Nth batch.
            Defaults to 1.

    Raises:
        ConfigError: If the config is for a package other than mmpretrain and
            has no such hook.
    """
    hooks = cfg.setdefault('default_hooks', {})
    if scope_of(cfg) in CLASSIFYING:
        hooks['visualization'] = dict(OF_CLASSIFIERS)
    hook = hooks.get('visualization')
    if hook is None:
        raise ConfigError(
            f'{cfg.filename} has no default_hooks.visualization to draw the '
            f'pictures: set it to the visualization hook of {scope_of(cfg)}.'
        )
    known = set(signature(_find_class(hook['type'], cfg)).parameters)
    hook.update(show=show, wait_time=wait_time)
    for switch in {'enable', 'draw'} & known:
        hook[switch] = True
    for every in {'interval', 'frame_interval'} & known:
        hook[every] = interval
    if folder is not None:
        # mmdet joins a relative path to the work directory at each image.
        absolute = str(Path(folder).absolute())
        places = {'out_dir', 'test_out_dir'} & known
        for place in places:
            hook[place] = absolute
        if not places:
            cfg.visualizer.save_dir = absolute


def _find_class(kind: Any, cfg: Config) -> Any:
    if not isinstance(kind, str):
        return kind
    scope = cfg.get('default_scope', 'mmengine')
    with HOOKS.switch_scope_and_registry(scope) as scoped:
        return scoped.get(kind)
