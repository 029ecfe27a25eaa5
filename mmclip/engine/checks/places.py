"""A check of data sets' folders and lists before they are built."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS
from mmpretrain.datasets import CustomDataset

from mmclip.datasets.image_list import read_labelled_list, read_list
from mmclip.datasets.image_tree import check_folder
from mmclip.engine.checks.parts import is_like_custom_dataset

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_places(cfg: Config, splits: tuple[str, ...] = LOADERS) -> None:
    """Refuse a ``CustomDataset`` with a missing or malformed folder or list.

    mmpretrain would say "not enough values to unpack". Our data sets check
    this themselves.

    Args:
        cfg (Config): The config of a run.
        splits (tuple[str, ...]): The dataloaders that it uses. Defaults to
            all.

    Raises:
        FileNotFoundError: If a folder or a list does not exist.
        ValueError: If a line of a list is not a path and a label.
    """
    scope = cfg.get('default_scope', 'mmengine')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        for key in splits:
            loader = cfg.get(key) or {}
            for settings in _innermost(loader.get('dataset')):
                kind = settings['type']
                kind = registry.get(kind) if isinstance(kind, str) else kind
                if is_like_custom_dataset(kind):
                    plain = {**settings, 'lazy_init': True, 'pipeline': []}
                    _check(registry.build(plain))


def _check(dataset: CustomDataset) -> None:
    if not dataset.ann_file:
        check_folder(dataset.img_prefix, dataset.with_label)
    elif dataset.with_label:
        read_labelled_list(dataset.ann_file, ' ')  # its own separator
    else:
        read_list(dataset.ann_file)


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
