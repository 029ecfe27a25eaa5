"""What a Python config and its bases say, before it is computed."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


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

    def sets(self) -> set[str]:
        """The names that it gives a value."""
        return _names(self.tree, ast.Store)

    def reads(self) -> set[str]:
        """The names that it reads itself."""
        return _names(self.tree, ast.Load) - {'dict'}

    def reads_of_bases(self) -> set[str]:
        """The names that it reads of its bases, as ``_base_.NAME``."""
        return set(re.findall(r'_base_\.(\w+)', self.text))

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
    """The config file and its bases, of those that are files of Python."""
    if path.suffix != '.py':
        return
    text = path.read_text(encoding='utf-8')
    tree = ast.parse(text)
    yield ConfigSource(path, text, tree)
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and '_base_' in _targets(
            statement
        ):
            bases = ast.literal_eval(statement.value)
            for base in [bases] if isinstance(bases, str) else bases:
                if '::' not in base:  # else of another package
                    yield from read_sources(path.parent / base)


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
