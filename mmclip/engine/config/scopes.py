"""Which of OpenMMLab's packages a config is for."""

from typing import Any

from mmengine.config import Config

# Scopes of mmpretrain's configs, old and new, of ours, and of none.
CLASSIFYING = {'mmclip', 'mmcls', 'mmengine', 'mmpretrain'}


def scope_of(cfg: Config, dataset: Any = None) -> str:
    """The scope of a config, or of one of its data sets.

    Args:
        cfg (Config): With ``default_scope``, if it is not mmengine's.
        dataset (Any): What describes a data set; of one that wraps others,
            the innermost counts.
    """
    if isinstance(dataset, dict):
        inner = [dataset.get('dataset'), *(dataset.get('datasets') or ())]
        for wrapped in inner:
            if isinstance(wrapped, dict):
                return scope_of(cfg, wrapped)
        kind = dataset.get('type')
        if isinstance(kind, str) and '.' in kind:
            return kind.partition('.')[0]
    return cfg.get('default_scope') or 'mmengine'
