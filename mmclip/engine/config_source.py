"""What a Python config and its bases say, before it is computed."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

OF_A_BASE = re.compile(r'_base_(?:\.get\(.|\[.|\.)(\w+)')


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

        None for what it computes from other names, loops over or unpacks.
        """
        written: dict[str, str | None] = dict.fromkeys(
            _names(self.tree, ast.Store)
        )
        for statement in self.tree.body:
            if (
                isinstance(statement, ast.Assign)
                and isinstance(statement.targets[0], ast.Name)
                and not _names(statement.value, ast.Load) - {'dict'}
            ):
                name = statement.targets[0].id
                written[name] = ast.unparse(statement.value)
        return written

    def reads(self) -> set[str]:
        """The names that it reads itself."""
        return _names(self.tree, ast.Load) - {'dict'}

    def reads_of_bases(self) -> set[str]:
        """The names that it reads of its bases, such as ``_base_.NAME``."""
        return set(OF_A_BASE.findall(self.text))

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
                if _names(statement, ast.Load) & found
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


def _names(tree: ast.AST, context: type[ast.expr_context]) -> set[str]:
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, context)
    }
