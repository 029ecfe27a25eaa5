"""Loading, completing and checking of configs."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmclip.engine.config.check import RUNNER_HOOKS, check_keys
from mmclip.engine.config.scopes import CLASSIFYING, scope_of
from mmclip.errors import ConfigError, RequirementError
from mmclip.requirements import SETUPTOOLS

SUFFIXES = '.py', '.json', '.yaml', '.yml'  # that mmengine reads


def load_config(
    path: str | Path,
    options: dict[str, Any] | None = None,
    work_dir: str | None = None,
) -> Config:
    """Load a config file, apply options and check its keys.

    Args:
        path (str | Path): The config file.
        options (dict | None): Values by dotted key, such as
            ``{'optim_wrapper.optimizer.lr': 1e-3}``.
        work_dir (str | None): Where logs and checkpoints go; by default the
            config's ``work_dir``, else ``work_dirs/<name of the config>``.

    Raises:
        ConfigError: If the file cannot be read, a key is misspelt, or an
            option has no effect.
        FileNotFoundError: If there is no such file.
        RequirementError: If it inherits from another package's config, and
            setuptools is too new for mmengine to find that.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f'Config {path} does not exist.')
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise ConfigError(
            f'{path} is not a config: it must be a file that ends in one of '
            f'{", ".join(SUFFIXES)}.'
        )
    try:
        cfg = Config.fromfile(path)
    except OSError:  # a base config is missing
        raise
    except Exception as error:  # a config is Python, and raises anything
        if getattr(error, 'name', None) == 'pkg_resources':
            raise RequirementError(
                f"{path} inherits from another package's config, for which "
                'mmengine imports pkg_resources, but the installed setuptools '
                f"no longer has it; run: pip install 'setuptools{SETUPTOOLS}'"
            ) from error
        # mmengine's lazy objects raise a RuntimeError that says nothing.
        problem = str(error) or (
            'a config that imports cannot call what it imports, such as '
            'np.array(...); write the value itself, or dict(type=...)'
        )
        raise ConfigError(
            f'{path} cannot be read: {type(error).__name__}: {problem}'
        ) from error
    _refuse_replacing(cfg, options or {})
    try:
        cfg.merge_from_dict(options or {})
    except (KeyError, TypeError) as error:  # no such index, no such dict
        raise ConfigError(f'{path}: {error.args[0]}') from None
    check_keys(cfg, options or ())
    drop_hooks(cfg)
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{path.stem}'
    return cfg


def _refuse_replacing(cfg: Config, options: dict[str, Any]) -> None:
    """Refuse a number or text in the place of what is to be built.

    Raises:
        ConfigError: If there is one.
    """
    for place, value in options.items():
        old: Any = cfg
        for key in place.split('.'):
            if isinstance(old, list | tuple) and key.isdigit():
                old = dict(enumerate(old)).get(int(key))
            else:
                old = old.get(key) if isinstance(old, dict | Config) else None
        parts = old if isinstance(old, list | tuple) else [old]
        if isinstance(value, str | int | float) and any(
            isinstance(part, dict) and 'type' in part for part in parts
        ):
            raise ConfigError(
                f'{cfg.filename}: {place} is {value!r}, but must be a '
                f'{"list" if old is parts else "dict"}: set keys in it, such '
                f'as {place}.{"0." if old is parts else ""}type.'
            )


def drop_hooks(cfg: Config) -> None:
    """Remove the default hooks that a config sets to None.

    mmengine does so only for its own, and fails for others.
    """
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None]:
        if name not in RUNNER_HOOKS:
            del hooks[name]


def complete_dataloaders(
    cfg: Config, *, pin_memory: bool, persistent_workers: bool = True
) -> None:
    """Set what mmpretrain's tools set in the dataloaders of a config.

    ``mmclip.ResumableSampler`` also gets the number of images per step.
    Samples of other packages are not stacked: their images may differ in
    size, and their models take lists, mmengine's default.

    Args:
        cfg (Config): The config, changed in place; its own settings stay,
            unless False is given here.
        pin_memory (bool): Whether to copy batches into page-locked memory.
        persistent_workers (bool): Whether to keep workers between epochs.
            Defaults to True.
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
    _end_epochs_with_steps(cfg)


def _end_epochs_with_steps(cfg: Config) -> None:
    loader = cfg.get('train_dataloader') or {}
    sampler = loader.get('sampler') or {}
    kind = sampler.get('type')
    if getattr(kind, '__name__', kind) in (
        'ResumableSampler',
        'mmclip.ResumableSampler',
    ):
        counts = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
        images = counts * loader.get('batch_size', 1)
        sampler['images_per_step'] = images if counts > 1 else None
