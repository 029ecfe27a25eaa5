"""mmpretrain's multimodal models, where transformers has moved on.

mmpretrain imports them wherever pycocotools and any transformers are
installed, with names that newer transformers no longer have, and all of its
models fail with them. Nothing here needs them.
"""

import ast
import importlib
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmpretrain.utils import dependency


def switch_off_if_broken() -> None:
    """Leave mmpretrain's multimodal models out if they cannot be imported.

    It comes too late once mmpretrain's models are imported.
    """
    if not dependency.WITH_MULTIMODAL or 'mmpretrain.models' in sys.modules:
        return
    models = Path(dependency.__file__).parents[1] / 'models'
    missing = missing_name(
        [*models.glob('multimodal/**/*.py'), *models.glob('utils/*.py')]
    )
    if missing:
        dependency.WITH_MULTIMODAL = False
        logging.getLogger(__name__).warning(
            "mmpretrain's multimodal models are switched off: the installed "
            'transformers has no %s, which they import.',
            missing,
        )


def missing_name(files: Iterable[Path]) -> str | None:
    """The first name that files import from transformers and that is gone.

    Args:
        files (Iterable[Path]): Python files. Imports inside their functions
            do not count.
    """
    for module, name in _imports(files):
        try:
            getattr(importlib.import_module(module), name)
        # Its lazy modules pass on whatever goes wrong in others.
        except Exception:
            return f'{module}.{name}'
    return None


def _imports(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for file in sorted(files):
        source = file.read_text(encoding='utf-8')
        if 'transformers' not in source:
            continue
        left: list[ast.stmt] = ast.parse(source).body
        for statement in left:
            if isinstance(statement, ast.Try):
                left.extend(statement.body)
            elif isinstance(statement, ast.ImportFrom):
                module = statement.module or ''
                if module.partition('.')[0] == 'transformers':
                    for alias in statement.names:
                        yield module, alias.name


switch_off_if_broken()
