"""How templates become pages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(
    folder: Path, **filters: Callable[[Any], str | None]
) -> Environment:
    """Return what fills the templates in a folder; it escapes all values.

    Args:
        folder (Path): The templates.
        **filters: What templates may apply to values, by name.
    """
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(filters)
    return made
