"""A switch for mmpretrain's multimodal models.

mmpretrain imports them wherever pycocotools and transformers are installed,
whatever the version. Newer versions of transformers lack names that they use,
and then none of mmpretrain's models can be imported. mmclip does not need
them.
"""

import ast
import importlib
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmpretrain.utils import dependency


def switch_off_if_broken() -> None:
    """Leave out mmpretrain's multimodal models if they cannot be imported.

    This has no effect once mmpretrain's models have been imported.
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
    """Return the first name that transformers lacks but files import from it.

    Args:
        files (Iterable[Path]): Python files. Imports inside functions are
            ignored.
    """
    for module, name in _imports(files):
        try:
            getattr(importlib.import_module(module), name)
        # Lazy modules of transformers can raise anything.
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
