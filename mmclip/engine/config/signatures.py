"""What classes and functions take, read from their signatures and code."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.model import (
    ExponentialMovingAverage,
    MomentumAnnealingEMA,
    StochasticWeightAverage,
)
from mmengine.runner import Runner

# Where the arguments go that these classes do not name themselves.
PASSED_ON: dict[type, tuple[Callable, ...]] = {
    CheckpointHook: (Runner.save_checkpoint,),
    EMAHook: (
        StochasticWeightAverage,
        ExponentialMovingAverage,
        MomentumAnnealingEMA,
    ),
}


def accepted_arguments(cls: type) -> set[str] | None:
    """The keyword arguments of a class.

    Returns:
        set[str] | None: Their names, the base classes' with them where a
        class passes on what it does not know; None where it cannot be said.
    """
    accepted: set[str] = set()
    for owner in cls.__mro__:
        if '__init__' not in vars(owner):
            continue
        if owner is object:
            return accepted
        parameters = _parameters(vars(owner)['__init__'])
        if parameters is None:
            return None
        accepted |= set(parameters) - {'self'}
        kinds = {p.kind for p in parameters.values()}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return accepted
        if owner in PASSED_ON:
            return accepted.union(*map(argument_names, PASSED_ON[owner]))
        if not _passes_all_to_base(owner):
            return None
    return None


def argument_names(function: Callable) -> set[str]:
    """The names of all parameters of a function."""
    return set(inspect.signature(function).parameters)


def _parameters(init: Any) -> dict[str, inspect.Parameter] | None:
    try:
        return dict(inspect.signature(init).parameters)
    except (TypeError, ValueError):  # of some built-in classes
        return None


def _passes_all_to_base(owner: type) -> bool:
    """Whether ``**kwargs`` go to ``super().__init__`` and nowhere else."""
    tree = _tree(vars(owner)['__init__'])
    if tree is None:
        return False
    function: Any = tree.body[0]
    name = function.args.kwarg.arg
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
    passed = [
        keyword.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and _is_base_init(call.func)
        for keyword in call.keywords
        if keyword.arg is None
    ]
    return all(use in passed for use in uses if use.id == name)


def _is_base_init(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr == '__init__'
        and isinstance(function.value, ast.Call)
        and isinstance(function.value.func, ast.Name)
        and function.value.func.id == 'super'
    )


def strings_in(sources: Sequence[Any]) -> set[str]:
    """All strings in the code of functions or classes: the keys it asks for.

    Empty where a part of the code is not to be had.
    """
    trees = [_tree(source) for source in sources]
    return {
        node.value
        for tree in trees
        if tree is not None and None not in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _tree(source: Any) -> ast.Module | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(source)))
    except (OSError, TypeError, SyntaxError):  # built in, or made at run time
        return None
