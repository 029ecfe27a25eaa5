"""Imports that wait: for imports of other packages, or for a first use."""

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


@contextmanager
def hide_mmcv_lite() -> Iterator[None]:
    """Hide its warning of an operator that no model of ours has."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeform')
        yield


def when_imported(theirs: str, ours: str) -> None:
    """Import our module as soon as another package's module is imported.

    If that has been imported already, import ours at once. So registering
    with another package costs nothing if that package is not used.

    Args:
        theirs (str): The full name of the other package's module.
        ours (str): The full name of ours.
    """
    if theirs in sys.modules:
        importlib.import_module(ours)
    else:
        sys.meta_path.insert(0, _Finder(theirs, ours))


def names_of(package: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package whose module ``public`` has names.

    That module is imported when one of them is used, so that modules of the
    package that need little are imported quickly.

    Args:
        package (str): Its full name.
    """

    def __getattr__(name: str) -> Any:
        if name.startswith('__'):  # asked for by Python itself
            raise AttributeError(name)
        if find_spec(f'{package}.{name}'):
            return importlib.import_module(f'{package}.{name}')
        return getattr(importlib.import_module(f'{package}.public'), name)

    return __getattr__


class _Finder(MetaPathFinder):
    """A finder that wraps the loader of one module, until it is imported.

    Whoever only looks for it, as ``importlib.util.find_spec`` does, changes
    nothing, nor does an import that fails.
    """

    def __init__(self, theirs: str, ours: str):
        self.theirs, self.ours = theirs, ours

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find the module as if this finder were not there."""
        if fullname != self.theirs:
            return None
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = _Loader(spec.loader, self)
                    return spec
        return None


class _Loader(Loader):
    """A loader that loads a module as usual, then imports ours."""

    def __init__(self, loader: Loader, finder: _Finder):
        self.loader, self.finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module without leaving a trace, then import ours."""
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        importlib.import_module(self.finder.ours)
        if self.finder in sys.meta_path:
            sys.meta_path.remove(self.finder)
