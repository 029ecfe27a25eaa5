"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    align: str | None = None,
) -> str:
    """Make a table.

    Args:
        header (Sequence): A name for each column.
        rows (Iterable[Sequence]): Its cells, row by row; floats have one
            decimal.
        align (str | None): A letter for each column, ``l``, ``c`` or ``r``.
            Defaults to the first on the left and the others on the right.

    Returns:
        str: Lines, the last with its end.
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
