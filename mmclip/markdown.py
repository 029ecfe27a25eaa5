"""Formatting of Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown_table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    align: str | None = None,
) -> str:
    """Format a table.

    Args:
        header (Sequence): The names of the columns.
        rows (Iterable[Sequence]): The cells, row by row; floats get one
            decimal.
        align (str | None): A letter per column, ``l``, ``c`` or ``r``.
            Defaults to None: the first column left, the others right.

    Returns:
        str: The table, ending with a newline.
    """
    align = align or 'l' + 'r' * (len(header) - 1)
    marks = [{'l': ':--', 'c': ':-:', 'r': '--:'}[letter] for letter in align]
    lines = (
        f'| {" | ".join(map(_cell, cells))} |\n'
        for cells in (header, marks, *rows)
    )
    return ''.join(lines)


def _cell(value: object) -> str:
    return f'{value:.1f}' if isinstance(value, float) else str(value)
