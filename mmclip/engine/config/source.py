"""What a Python config and its bases say, before it is computed."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

IN_A_STRING = re.compile(r'\{\{\s*_base_\.(\w+)')


@dataclass(frozen=True)
class ConfigSource:
    """The code of one config file.

    Args:
        path (Path): The file.
        text (str): What it holds.
        tree (ast.Module): The same, parsed.
    """

    path: Path
    text: str
    tree: ast.Module

    def sets(self) -> dict[str, str | None]:
        """The names that it gives a value, and that value as it is written.

        None for what it computes from other names, loops over, unpacks, or
        sets twice, and for what it changes in a base.
        """
        stores = Counter(_stores(self.tree))
        written: dict[str, str | None] = dict.fromkeys(stores)
        written |= dict.fromkeys(self._changes_in_bases())
        for statement in self.tree.body:
            if (
                isinstance(statement, ast.Assign)
                and isinstance(statement.targets[0], ast.Name)
                and stores[statement.targets[0].id] == 1
                and not _loads(statement.value) - {'dict'}
            ):
                name = statement.targets[0].id
                written[name] = ast.unparse(statement.value)
        return written

    def reads(self) -> set[str]:
        """The names that it reads itself."""
        return _loads(self.tree) - {'dict'}

    def reads_of_bases(self) -> set[str]:
        """The names that it reads of its bases, such as ``_base_.NAME``."""
        found = Counter(_of_bases(self.tree)) - self._changes_in_bases()
        return {*found, *IN_A_STRING.findall(self.text)}

    def _changes_in_bases(self) -> Counter[str]:
        """NAME of ``_base_.NAME... = VALUE``."""
        targets: list[ast.expr] = []
        for statement in ast.walk(self.tree):
            if isinstance(statement, ast.Assign):
                targets += statement.targets
            elif isinstance(statement, ast.AugAssign):
                targets.append(statement.target)
        return Counter(name for t in targets for name in _of_bases(t))

    def describes(self) -> set[str]:
        """The names of all ``NAME=dict(...)`` in it."""
        return {
            node.arg or ''
            for node in ast.walk(self.tree)
            if isinstance(node, ast.keyword)
            and isinstance(node.value, ast.Call)
        }

    def computes_from(self, name: str) -> set[str]:
        """The names that it gives a value with the help of another."""
        found: set[str] = set()
        new = {name}
        while new:
            found |= new
            new = {
                target
                for statement in self.tree.body
                if _loads(statement) & found
                for target in _targets(statement)
            } - found
        return found - {name}


def read_sources(path: Path) -> Iterator[ConfigSource]:
    """The config file, then its bases, as far as they are Python files."""
    if path.suffix != '.py':
        return
    text = path.read_text(encoding='utf-8')
    yield ConfigSource(path, text, ast.parse(text))
    for base in Config._get_base_files(str(path)):
        base = path.parent / base
        if base.is_file():  # else of another package, PACKAGE::FILE
            yield from read_sources(base)


def is_unread(name: str, sources: list[ConfigSource]) -> bool:
    """Whether a variable, as it was set last, is read nowhere.

    Args:
        name (str): The variable.
        sources (list[ConfigSource]): The config file, then its bases.
    """
    setters = [source for source in sources if name in source.sets()]
    values = {source.sets()[name] for source in setters}
    if len(values) > 1 or None in values:  # else it does not matter which
        del setters[1:]
    return bool(setters) and not (
        any(name in source.reads() for source in setters)
        or any(name in source.reads_of_bases() for source in sources)
    )


def is_left_over(name: str, sources: list[ConfigSource]) -> bool:
    """Whether a variable is a helper, computed from others, without a use."""
    return not any(
        source.sets().get(name) or source.computes_from(name)
        for source in sources
    )


def _targets(statement: ast.stmt) -> set[str]:
    """What a statement sets; of ``x[0] = y`` and ``x.update(y)`` it is x."""
    if isinstance(statement, ast.Assign):
        nodes: list[ast.expr] = statement.targets
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign):
        nodes = [statement.target]
    elif isinstance(statement, ast.Expr) and isinstance(
        statement.value, ast.Call
    ):
        nodes = [statement.value.func]
    else:
        nodes = []
    found: set[str] = set()
    for node in nodes:
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return found


def _loads(tree: ast.AST) -> set[str]:
    return set(_names(tree, ast.Load))


def _stores(tree: ast.AST) -> Iterator[str]:
    return _names(tree, ast.Store)


def _names(tree: ast.AST, context: type[ast.expr_context]) -> Iterator[str]:
    return (
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, context)
    )


def _of_bases(tree: ast.AST) -> Iterator[str]:
    """Each NAME of ``_base_.NAME``, ``_base_['NAME']``, ``.get('NAME')``."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(ast.Name('_base_'), ast.Constant(str(name))):
                yield name
            case ast.Attribute(ast.Name('_base_'), name):
                yield name
            case ast.Call(
                ast.Attribute(ast.Name('_base_'), 'get'),
                [ast.Constant(str(name)), *_],
            ):
                yield name
