"""Configs of the runners: loaded, completed from the command line, checked."""

import ast
import difflib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

# Read by mmengine's Runner or mmpretrain's models beside Runner's arguments.
OTHER_KEYS = {
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'find_unused_parameters',
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
        KeyError: If a top-level key is read by nobody.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'Config {path} does not exist.')
    cfg = Config.fromfile(path)
    if options:
        cfg.merge_from_dict(options)
    check_keys(cfg, path)
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{path.stem}'
    return cfg


def check_keys(cfg: Config, path: Path) -> None:
    """Refuse top-level keys that neither the runner nor the config reads.

    A variable that the config file uses to compute others, such as
    ``train_pipeline``, is read by the config itself.

    Raises:
        KeyError: Naming the keys, and the nearest known one for each.
    """
    unread = sorted(set(cfg) - KNOWN_KEYS - set(_names_read(path)))
    if not unread:
        return
    complaints = []
    for key in unread:
        near = difflib.get_close_matches(key, KNOWN_KEYS, 1)
        hint = f' (did you mean {near[0]!r}?)' if near else ''
        complaints.append(f'{key!r}{hint}')
    raise KeyError(
        f'{path}: nothing reads the top-level key {", ".join(complaints)}.'
    )


def _names_read(path: Path) -> Iterator[str]:
    """Every name that a Python config or one of its bases reads."""
    if path.suffix != '.py':
        return
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):  # _base_.NAME
            yield node.attr
        elif isinstance(node, ast.Assign) and _is_base(node):
            bases = ast.literal_eval(node.value)
            for base in [bases] if isinstance(bases, str) else bases:
                if '::' not in base:
                    yield from _names_read(path.parent / base)


def _is_base(node: ast.Assign) -> bool:
    return any(
        isinstance(t, ast.Name) and t.id == '_base_' for t in node.targets
    )


def complete_dataloaders(
    cfg: Config, *, pin_memory: bool, persistent_workers: bool = True
) -> None:
    """Set what mmpretrain's tools set in the dataloaders of a config.

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
        loader.setdefault('collate_fn', dict(type='default_collate'))
        loader.setdefault('pin_memory', True)
        loader.setdefault('persistent_workers', has_workers)
        loader.pin_memory &= pin_memory
        loader.persistent_workers &= persistent_workers
