"""What goes wrong for reasons that users can mend, and how to say it."""

import difflib
from collections.abc import Collection, Iterable


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, converted or loaded as asked.

    The message names the file or key, what was found, what was wanted and
    the next step.
    """


class DataError(ValueError):
    """Images, labels or classes are not what a run needs.

    The message names the file, folder or label, what was found, what was
    wanted and the next step.
    """


class ConfigError(ValueError):
    """A config has keys that nothing reads, or lacks what is needed."""


class ArgumentError(ValueError):
    """An argument of a command or of a function has no meaning here."""


class RequirementError(ImportError):
    """A package that is needed is missing, or of the wrong version."""


class NonFiniteLossError(RuntimeError):
    """A loss or gradient was NaN or infinite; no weight was changed by it."""


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        ArgumentError: Lists the choices.
    """
    if value not in choices:
        raise ArgumentError(
            f'{name} must be one of {", ".join(choices)}; got {value!r}.'
        )


def did_you_mean(name: str, known: Iterable[str], alike: float = 0.6) -> str:
    """Name the known name that a misspelt one was probably meant to be.

    Args:
        name (str): What was written.
        known (Iterable[str]): What could have been.
        alike (float): How alike they must be, from 0 to 1. Defaults to 0.6.

    Returns:
        str: To append to a sentence; empty if none is near.
    """
    near = difflib.get_close_matches(name, sorted(known), 1, alike)
    return f' (did you mean {near[0]!r}?)' if near else ''


def some(names: Iterable[object], most: int = 5) -> str:
    """The beginnings of a few of many names, and how many more there are."""
    texts = [str(name)[:200] for name in names]
    more = f' and {len(texts) - most} more' if len(texts) > most else ''
    return ', '.join(texts[:most]) + more
