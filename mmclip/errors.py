"""Errors that users can fix, and helpers to word them."""

import difflib
from collections.abc import Collection, Iterable


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, converted or loaded as asked.

    The message names the file or key, what was found, what was expected and
    what to do next.
    """


class DataError(ValueError):
    """Images, labels or classes are not what a run needs.

    The message names the file, folder or label, what was found, what was
    expected and what to do next.
    """


class ConfigError(ValueError):
    """A config has wrong keys or values, or lacks keys that it needs."""


class ArgumentError(ValueError):
    """An argument of a command or function is invalid."""


class RequirementError(ImportError):
    """A required package is missing or has the wrong version."""


class NonFiniteLossError(RuntimeError):
    """A loss or gradient was NaN or infinite, and changed no weight."""


# Errors that a user can fix are printed as one sentence; anything else is a
# bug and keeps its traceback.
EXPECTED = (
    ArgumentError,
    CheckpointError,
    ConfigError,
    DataError,
    NonFiniteLossError,
    OSError,
    RequirementError,
)


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ArgumentError: If it is not; the message lists the choices.
    """
    if value not in choices:
        raise ArgumentError(
            f'{name} must be one of {", ".join(choices)}; got {value!r}'
            f'{did_you_mean(str(value), choices)}.'
        )


def did_you_mean(name: str, known: Iterable[str], alike: float = 0.6) -> str:
    """Suggest the known name that is closest to a misspelt one.

    Args:
        name (str): The name as written.
        known (Iterable[str]): The names that exist.
        alike (float): How similar they must be, from 0 to 1. Defaults to
            0.6.

    Returns:
        str: Text to append to a sentence; empty if no name is close.
    """
    near = difflib.get_close_matches(name, sorted(known), 1, alike)
    return f' (did you mean {near[0]!r}?)' if near else ''


def some(names: Iterable[object], most: int = 5) -> str:
    """List the first few of many names, and how many more there are."""
    texts = [str(name)[:200] for name in names]
    more = f' and {len(texts) - most} more' if len(texts) > most else ''
    return ', '.join(texts[:most]) + more


def some_misfits(error: RuntimeError) -> str:
    """List the first that ``load_state_dict`` says of keys and shapes."""
    return some(str(error).split('\n\t')[1:] or [error])
