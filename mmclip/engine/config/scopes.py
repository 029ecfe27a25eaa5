"""The OpenMMLab package that a config is for."""

from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

# The scopes of classifiers: ours, mmpretrain's (old and new) and the default.
CLASSIFYING = {'mmclip', 'mmcls', 'mmengine', 'mmpretrain'}


def scope_of(cfg: Config, dataset: Any = None) -> str:
    """Return the scope of a config, or of one of its data sets.

    Args:
        cfg (Config): A config, perhaps with ``default_scope``.
        dataset (Any): The config of a data set; inside wrappers, the
            innermost counts. Defaults to None: the test set, if there is no
            ``default_scope``, as in new configs of mmdet.
    """
    default = cfg.get('default_scope')
    if dataset is None and default is None:
        dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    if isinstance(dataset, dict):
        inner = [dataset.get('dataset'), *(dataset.get('datasets') or ())]
        for wrapped in inner:
            if isinstance(wrapped, dict):
                return scope_of(cfg, wrapped)
        kind = dataset.get('type')
        if isinstance(kind, str) and '.' in kind:
            return kind.partition('.')[0]
        for base in getattr(kind, '__mro__', ()):  # a class, in new configs
            package = base.__module__.partition('.')[0]
            if package in MODULE2PACKAGE:
                return package
    return default or 'mmengine'
