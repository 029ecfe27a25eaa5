"""Rules for values from others' JSON files and checkpoints.

Only known names are read, with the types and bounds set here. Unknown names
are refused if they would reach another library, and ignored otherwise. No
value becomes an address, a path, code, or a size to allocate.
"""

import json
import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmclip.errors import CheckpointError
from mmclip.version import __version__

# Far more than any model needs, but little enough for any machine.
MOST_LAYERS = 512
MOST_CHANNELS = 2**16
MOST_PIXELS = 2**14
MOST_TOKENS = 2**16
MOST_WORDS = 2**22
MOST_BYTES_OF_JSON = 2**24

# A test of a value, and the description of what it must be.
Check = tuple[Callable[[Any], bool], str]


def read_json(
    path: str | Path, most: int = MOST_BYTES_OF_JSON
) -> dict[str, Any]:
    """Read a JSON file that holds an object."""
    path = Path(path)
    if path.stat().st_size > most:
        raise CheckpointError(
            f'{path} has {path.stat().st_size:,} bytes; at most {most:,} are '
            'allowed.'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f'{path} is not a JSON file: {error or "nested too deeply"}.'
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{path} must be a JSON object, got a {type(content).__name__}.'
        )
    return content


def take(
    values: Any, checks: Mapping[str, Check], where: str
) -> dict[str, Any]:
    """Return the known values of an object, and ignore the rest."""
    if not isinstance(values, Mapping):
        raise CheckpointError(
            f'{where} must be an object, got {shown(values)}.'
        )
    taken = {}
    for name, (is_right, wanted) in checks.items():
        if name not in values:
            continue
        if not is_right(values[name]):
            raise CheckpointError(
                f'{where}: {name} must be {wanted}, got {shown(values[name])}.'
            )
        taken[name] = values[name]
    return taken


def take_all(
    values: Any, checks: Mapping[str, Check], where: str
) -> dict[str, Any]:
    """Return the values of an object as :func:`take`, but refuse the rest."""
    taken = take(values, checks, where)
    unknown = [repr(name)[:50] for name in values if name not in checks]
    if unknown:
        raise CheckpointError(
            f'{where}: mmclip {__version__} with open_clip '
            f'{version("open_clip_torch")} does not understand '
            f'{", ".join(unknown)[:200]}.'
        )
    return taken


def shown(value: Any) -> str:
    """Return a value in at most a few dozen characters."""
    if isinstance(value, Mapping | list | tuple | set):
        return f'a {type(value).__name__} of {len(value)}'
    if isinstance(value, int) and abs(value) >= 10**18:
        return 'an integer of more than 18 digits'
    text = repr(value[:50] if isinstance(value, str | bytes) else value)
    return text[:60]


def is_whole(value: Any, low: int, high: int) -> bool:
    """Return whether a value is an integer, not a bool, within bounds."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return is_int and low <= value <= high


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number, not a bool."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e300 and math.isfinite(value)


def whole(high: int, low: int = 1) -> Check:
    """Allow integers within bounds."""
    return lambda v: is_whole(v, low, high), f'an integer from {low} to {high}'


def number(low: float, high: float) -> Check:
    """Allow finite numbers within bounds."""
    return (
        lambda v: is_finite(v) and low <= v <= high,
        f'a number from {low} to {high}',
    )


def choice(*choices: Any) -> Check:
    """Allow a few values."""

    def is_one(value: Any) -> bool:
        # 1 is not True, and a list cannot be looked up.
        return any(type(value) is type(c) and value == c for c in choices)

    return is_one, f'one of {", ".join(map(repr, choices))}'


def optional(check: Check) -> Check:
    """Allow what a check allows, or null."""
    is_right, wanted = check
    return lambda v: v is None or is_right(v), f'{wanted}, or null'


def either(one: Check, other: Check) -> Check:
    """Allow what one of two checks allows."""
    return (
        lambda v: one[0](v) or other[0](v),
        f'{one[1]}, or {other[1]}',
    )


def several(check: Check, count: int) -> Check:
    """Allow lists of ``count`` values that a check allows."""
    is_right, wanted = check

    def are_right(values: Any) -> bool:
        is_list = isinstance(values, list | tuple) and len(values) == count
        return is_list and all(map(is_right, values))

    return are_right, f'a list of {count}, each {wanted}'


FLAG: Check = (lambda v: isinstance(v, bool), 'true or false')
NAME: Check = (
    lambda v: isinstance(v, str) and len(v) <= 500,
    'a string of at most 500 characters',
)
OBJECT: Check = (lambda v: isinstance(v, Mapping), 'an object')
SIZE = either(whole(MOST_PIXELS), several(whole(MOST_PIXELS), 2))
PIXELS = several(number(-1e3, 1e3), 3)
SPREADS = several(number(1e-6, 1e3), 3)
