"""What goes wrong with weights and with data."""

from collections.abc import Iterable


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


def some(names: Iterable[object], most: int = 5) -> str:
    """The beginnings of a few of many names, and how many more there are."""
    texts = [str(name)[:200] for name in names]
    more = f' and {len(texts) - most} more' if len(texts) > most else ''
    return ', '.join(texts[:most]) + more
