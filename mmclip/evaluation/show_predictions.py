"""Pictures of predictions, by the hook of the package that a config is for."""

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
    """Turn on ``default_hooks.visualization`` of a config for its test.

    Every package has a hook of its own, and they differ in what the switch
    and the folder are called. mmseg's writes where the visualizer does.

    Args:
        cfg (Config): Changed in place.
        folder (str | Path | None): Where pictures go; None to write none.
        show (bool): Show them in a window. Defaults to False.
        wait_time (float): Seconds that a window stays. Defaults to 2.
        interval (int): Picture every Nth image, in mmseg every Nth batch.
            Defaults to 1.

    Raises:
        ConfigError: If a config of another package than mmpretrain has no
            such hook.
    """
    hooks = cfg.setdefault('default_hooks', {})
    if scope_of(cfg) in CLASSIFYING:
        hooks['visualization'] = dict(OF_CLASSIFIERS)
    hook = hooks.get('visualization')
    if hook is None:
        raise ConfigError(
            f'{cfg.filename} has no default_hooks.visualization, which draws '
            f'the pictures: set it to the visualization hook of '
            f'{scope_of(cfg)}.'
        )
    known = set(signature(_find_class(hook['type'], cfg)).parameters)
    hook.update(show=show, wait_time=wait_time)
    for switch in {'enable', 'draw'} & known:
        hook[switch] = True
    for every in {'interval', 'frame_interval'} & known:
        hook[every] = interval
    if folder is not None:
        # mmdet would join a relative one to the work directory at each image.
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
