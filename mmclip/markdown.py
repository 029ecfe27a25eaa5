"""Formatting of Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown_table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    align: str | None = None,
) -> str:
    """Format a table whose columns stand below each other.

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
    cells = [[_cell(value) for value in row] for row in (header, *rows)]
    columns = [
        _column(letter, column)
        for letter, *column in zip(align, *cells, strict=True)
    ]
    lines = zip(*columns, strict=True)
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _column(letter: str, cells: Sequence[str]) -> list[str]:
    """Return cells of one width, with the mark below the first."""
    width = max(3, *map(len, cells))
    pad = {'l': str.ljust, 'c': str.center, 'r': str.rjust}[letter]
    mark = {'l': ':{}-', 'c': ':{}:', 'r': '-{}:'}[letter]
    name, *others = (pad(cell, width) for cell in cells)
    return [name, mark.format('-' * (width - 2)), *others]


def _cell(value: object) -> str:
    return f'{value:.1f}' if isinstance(value, float) else str(value)
