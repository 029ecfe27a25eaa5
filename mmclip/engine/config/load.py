"""Configs of the runners: loaded, completed from the command line, checked."""

import difflib
import inspect
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmclip.engine.config.check import (
    DEFAULT_HOOKS,
    check_arguments,
    nearest,
)
from mmclip.engine.config.scopes import CLASSIFYING, scope_of
from mmclip.engine.config.source import (
    ConfigSource,
    is_left_over,
    is_unread,
    read_sources,
)
from mmclip.requirements import SETUPTOOLS

# Read by mmengine's Runner or mmpretrain's models beside Runner's arguments.
OTHER_KEYS = {
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'strategy',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
    'vis_backends',
}
KNOWN_KEYS = OTHER_KEYS | set(inspect.signature(Runner).parameters)


def load_config(
    path: str | Path,
    options: dict[str, Any] | None = None,
    work_dir: str | None = None,
) -> Config:
    """Load a config file, apply options to it, and check its keys.

    Args:
        path (str | Path): The config file.
        options (dict | None): Values by dotted key, such as
            ``{'optim_wrapper.optimizer.lr': 1e-3}``.
        work_dir (str | None): Where logs and checkpoints go; by default the
            config's ``work_dir``, else ``work_dirs/<name of the config>``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If it builds on a config of another package, and
            setuptools is too new for mmengine to find that.
        KeyError: If nothing reads a top-level key, or an argument in it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'Config {path} does not exist.')
    try:
        cfg = Config.fromfile(path)
    except ModuleNotFoundError as error:
        if error.name != 'pkg_resources':
            raise
        raise ImportError(
            f'{path} builds on a config of another package, for which '
            'mmengine imports pkg_resources, and the installed setuptools no '
            f"longer has it; run: pip install 'setuptools{SETUPTOOLS}'"
        ) from error
    if options:
        cfg.merge_from_dict(options)
    check_keys(cfg, path, options or ())
    drop_hooks(cfg, path)
    check_arguments(cfg)
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{path.stem}'
    return cfg


def check_keys(cfg: Config, path: Path, options: Iterable[str] = ()) -> None:
    """Refuse top-level keys that neither the runner nor the config reads.

    A variable from which a config file computes others, such as
    ``train_pipeline``, is read by that file alone: a file that has it as its
    base, and an option, come too late to change it. Of helpers that are left
    over and are no dicts, and in a file that computes nothing, such as those
    in work directories, which hold the variables of the one that it was made
    from, only keys very near a known one are refused. So it is in configs of
    other packages than mmpretrain, where others are logged.

    Args:
        cfg (Config): The config.
        path (Path): Its file.
        options (Iterable[str]): The dotted keys that were set afterwards.

    Raises:
        KeyError: Naming the keys, and the nearest known one for each.
    """
    sources = list(read_sources(path))
    unknown = set(cfg) - KNOWN_KEYS
    unread = {option.split('.')[0] for option in options} & unknown
    if any(source.reads() for source in sources):
        unread |= {
            key
            for key in unknown
            if is_unread(key, sources)
            and (
                _is_misspelt(key)
                or isinstance(cfg[key], dict)
                or not is_left_over(key, sources)
            )
        }
    else:  # mmengine writes so what it has computed
        known = [value for key, value in cfg.items() if key in KNOWN_KEYS]
        unread |= {
            key
            for key in unknown
            if _is_misspelt(key) and not _occurs(cfg[key], known)
        }
    if not unread:
        return
    complaints = [_complain(key, sources) for key in sorted(unread)]
    message = (
        f'{path}: nothing reads the top-level key {", ".join(complaints)}.'
    )
    own = {option.split('.')[0] for option in options}
    if (
        scope_of(cfg) in CLASSIFYING
        or unread & own
        or any(map(_is_misspelt, unread))
    ):
        raise KeyError(message)
    # Other packages' own configs have left-over keys, mmpose's nearly all.
    logging.getLogger(__name__).warning(message)


def _complain(key: str, sources: list[ConfigSource]) -> str:
    for source in sources:
        if computed := source.computes_from(key) & KNOWN_KEYS:
            return (
                f'{key!r}, from which {source.path.name} has computed already '
                f'(set what it computes: {", ".join(sorted(computed))})'
            )
    return f'{key!r}{nearest(key, KNOWN_KEYS)}'


def _is_misspelt(key: str) -> bool:
    # Variables are called train_pipeline and test_pipeline everywhere.
    known = KNOWN_KEYS - {'tta_pipeline'}
    return bool(difflib.get_close_matches(key, known, 1, 0.8))


def _occurs(value: Any, tree: Any) -> bool:
    """Whether a value stands somewhere in nested dicts and lists."""
    if value == tree:
        return True
    if isinstance(tree, dict):
        tree = list(tree.values())
    return isinstance(tree, list | tuple) and any(
        _occurs(value, child) for child in tree
    )


def drop_hooks(cfg: Config, path: Path) -> None:
    """Remove the default hooks that a config sets to None.

    mmengine does so for its own, and stops without a word at others.

    Raises:
        KeyError: If no base config has such a hook.
    """
    hooks = cfg.get('default_hooks') or {}
    known = set(DEFAULT_HOOKS).union(
        *(source.describes() for source in read_sources(path))
    )
    for name in [name for name, hook in hooks.items() if hook is None]:
        if name not in known:
            raise KeyError(
                f'{path}: default_hooks.{name} is None, and there is no such '
                f'hook to remove{nearest(name, known)}.'
            )
        if name not in DEFAULT_HOOKS:
            del hooks[name]


def complete_dataloaders(
    cfg: Config, *, pin_memory: bool, persistent_workers: bool = True
) -> None:
    """Set what mmpretrain's tools set in the dataloaders of a config.

    Samples of other packages are not stacked: their images may differ in
    size, and their models take lists, which mmengine hands over by default.

    Args:
        cfg (Config): Changed in place; what it sets itself stays, but for a
            False given here.
        pin_memory (bool): Copy batches into page-locked memory.
        persistent_workers (bool): Keep workers between epochs. Defaults to
            True.
    """
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(key)
        if loader is None:
            continue
        has_workers = loader.get('num_workers', 0) > 0
        if scope_of(cfg, loader.get('dataset')) in CLASSIFYING:
            loader.setdefault('collate_fn', dict(type='default_collate'))
        loader.setdefault('pin_memory', True)
        loader.setdefault('persistent_workers', has_workers)
        loader.pin_memory &= pin_memory
        loader.persistent_workers &= persistent_workers
