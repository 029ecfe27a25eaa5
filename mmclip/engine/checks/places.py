"""A check of files and folders before anything is built."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS
from mmpretrain.datasets import CustomDataset

from mmclip.checkpoint.files.paths import check_file
from mmclip.checkpoint.files.paths import check_folder as check_writable
from mmclip.checkpoint.files.reading import open_weights
from mmclip.datasets.image_folder import ImageFolder
from mmclip.datasets.image_list import read_labelled_list, read_list
from mmclip.datasets.image_tree import check_folder
from mmclip.engine.checks.parts import is_like_custom_dataset
from mmclip.engine.config.build import naming_the_config

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_places(cfg: Config, splits: tuple[str, ...] = LOADERS) -> None:
    """Refuse missing or damaged files and folders before anything slow.

    mmpretrain would say "not enough values to unpack" of a list. Of data
    sets, ``CustomDataset`` and ``ImageFolder`` are checked.

    Args:
        cfg (Config): The config of a run.
        splits (tuple[str, ...]): The dataloaders that it uses. Defaults to
            all.

    Raises:
        CheckpointError: If the work directory cannot be written to, or
            ``load_from`` is a folder or a damaged file.
        FileNotFoundError: If a checkpoint, folder or list does not exist.
        ValueError: If a line of a list is not a path and a label.
    """
    if cfg.get('work_dir'):
        check_writable(Path(cfg.work_dir))
    checkpoint = cfg.get('load_from')
    if checkpoint and ':' not in checkpoint:  # as in URLs
        check_file(Path(checkpoint).expanduser())
        open_weights(checkpoint)
    scope = cfg.get('default_scope', 'mmengine')
    with (
        naming_the_config(cfg),
        DATASETS.switch_scope_and_registry(scope) as registry,
    ):
        for key in splits:
            loader = cfg.get(key) or {}
            for settings in _innermost(loader.get('dataset')):
                kind = settings['type']
                kind = registry.get(kind) if isinstance(kind, str) else kind
                if is_like_custom_dataset(kind) or _is_ours(kind):
                    plain = {**settings, 'lazy_init': True, 'pipeline': []}
                    _check(registry.build(plain))


def _check(dataset: CustomDataset) -> None:
    if not dataset.ann_file:
        check_folder(dataset.img_prefix, dataset.with_label)
    elif dataset.with_label and not _is_ours(type(dataset)):
        read_labelled_list(dataset.ann_file, ' ')  # its own separator
    else:
        read_list(dataset.ann_file)


def _is_ours(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, ImageFolder)


def _innermost(settings: Any) -> Iterator[dict[str, Any]]:
    """Yield the configs of data sets that are not wrappers."""
    if not isinstance(settings, Mapping) or 'type' not in settings:
        return
    inner = settings.get('datasets') or [settings.get('dataset')]
    if inner == [None]:
        yield dict(settings)
    else:
        for part in inner:
            yield from _innermost(part)
