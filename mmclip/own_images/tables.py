"""Tables of images: CSV, and JSON lines as Hugging Face has them."""

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmclip.datasets.table_rows import SEPARATOR
from mmclip.errors import DataError, some
from mmclip.own_images.images import Finding
from mmclip.own_images.listing import Listing, Row, number, split_named

SUFFIXES = ('.csv', '.tsv', '.txt', '.jsonl')
DELIMITERS = ',;\t'
# What people call their columns, with the usual names first.
PATH = """
    path file_name filename file filepath file_path image image_path img
    img_path image_name fname image_id id
""".split()  # noqa: SIM905
LABEL = ['label', 'class', 'category', 'class_name', 'label_name', 'target']
LABELS = ['labels', 'classes', 'categories', 'tags']  # one or several
SPLIT = ['split', 'set', 'subset', 'is_valid']
SEPARATORS = '|;,'  # between several labels: the first that occurs
# Of columns that say yes or no, one per class.
YES, NO = {'1', '1.0', 'true', 'yes'}, {'0', '0.0', 'false', 'no', ''}
ENDINGS = ('.jpg', '.jpeg', '.png')  # for names without a suffix


@dataclass
class Table:
    """The cells of a table.

    Args:
        path (Path): The file.
        columns (list[str]): Their names.
        rows (list[tuple[int, list]]): The number of each line, and its cells:
            text, or a list of texts.
    """

    path: Path
    columns: list[str]
    rows: list[tuple[int, list[Any]]]

    def find(self, names: Sequence[str]) -> int | None:
        """Return the number of the first of these columns, or None."""
        plain = [_plain(column) for column in self.columns]
        return next((plain.index(n) for n in names if n in plain), None)

    def refuse(self, lines: Sequence[int], what: str) -> None:
        """Refuse lines, if there are any."""
        if lines:
            raise DataError(
                f'{self.path}: {number(lines, "row")} {what}: line '
                f'{some(lines, 3)}.'
            )


def read_table(path: Path, root: Path | None = None) -> Listing:
    """Read a table with a header.

    Args:
        path (Path): A CSV, or JSON lines if its suffix is ``.jsonl``.
        root (Path | None): The folder that its paths are relative to.
            Defaults to that of the table.

    Raises:
        DataError: If it lacks columns, or a row has no label, an unknown
            split, or an image that does not exist.
    """
    root = root or path.parent
    return list_rows(rows_of(read_cells(path)), root, str(path))


def list_rows(rows: list[Row], root: Path, source: str) -> Listing:
    """Look for the images of rows, and for what is doubtful in them.

    Args:
        rows (list[Row]): The rows of one or several tables.
        root (Path): The folder that their paths are relative to.
        source (str): What the user named.
    """
    listing = Listing(source, str(root), _existing(rows, root, source))
    odd = [row for row in rows if any(SEPARATOR in n for n in row.labels)]
    if odd and not listing.has_several_labels():
        listing.findings.append(
            Finding(
                'separator',
                f'{number(odd, "label")} with a {SEPARATOR}, such as '
                f'{odd[0].labels[0]!r}, are taken as one name each; if they '
                'are several labels, call the column "labels".',
                tuple(row.path for row in odd),
            )
        )
    return listing


def read_cells(path: Path) -> Table:
    """Read all cells as text, but lists in JSON as lists of text.

    Raises:
        DataError: If the file is not UTF-8, CSV or JSON lines.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError:
        raise DataError(
            f'{path} is not UTF-8 text: save it again as CSV in UTF-8.'
        ) from None
    if path.suffix.lower() == '.jsonl':
        return _read_json_lines(path, text)
    header = text.lstrip('\n').partition('\n')[0]
    reader = csv.reader(
        io.StringIO(text),
        delimiter=max(DELIMITERS, key=header.count),
        skipinitialspace=True,
        strict=True,
    )
    table = Table(path, [], [])
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if table.columns:
                table.rows.append((reader.line_num, cells))
            else:
                table.columns = cells
    except csv.Error as error:
        raise DataError(
            f'{path} is not a CSV at line {reader.line_num}: {error}.'
        ) from None
    width = len(table.columns)
    table.refuse(
        [line for line, cells in table.rows if len(cells) != width],
        f'with more or fewer cells than the header, which has {width} (a cell '
        'with a comma in it needs quotes)',
    )
    return table


def _read_json_lines(path: Path, text: str) -> Table:
    records = []
    for line, content in enumerate(text.split('\n'), 1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise DataError(f'{path} has no JSON object at line {line}.')
        records.append((line, record))
    columns = list(dict.fromkeys(k for _, record in records for k in record))
    rows = [
        (line, [_text(record.get(column)) for column in columns])
        for line, record in records
    ]
    return Table(path, columns, rows)


def _has_labels(table: Table) -> bool:
    """Tell whether a table has labels, in whatever form."""
    return bool(
        table.find(LABEL + LABELS) is not None or _yes_or_no_columns(table)
    )


def rows_of(table: Table, start: str = '') -> list[Row]:
    """Read the rows of a table.

    Args:
        table (Table): The table.
        start (str): What is put before its paths.

    Raises:
        DataError: If it lacks columns, or a row has no path, no label, or an
            unknown split.
    """
    path = table.find(PATH)
    if path is None or not _has_labels(table):
        raise DataError(_missing_columns(table, path))
    labels = _labels(table)
    splits = _splits(table)
    table.refuse(
        [line for line, cells in table.rows if not cells[path]],
        'without a path',
    )
    return [
        Row(str(PurePosixPath(start, cells[path])), names, split)
        for (_, cells), names, split in zip(
            table.rows, labels, splits, strict=True
        )
    ]


def _labels(table: Table) -> list[tuple[str, ...]]:
    column = table.find(LABEL)
    several = column is None
    if several:
        column = table.find(LABELS)
    if column is None:
        columns = _yes_or_no_columns(table)
        return [
            tuple(table.columns[i] for i in columns if cells[i].lower() in YES)
            for _, cells in table.rows
        ]
    cells = [cells[column] for _, cells in table.rows]
    if not several and all(isinstance(cell, str) for cell in cells):
        table.refuse(
            [line for line, c in table.rows if not c[column]],
            'without a label; leave them out',
        )
        return [(cell,) for cell in cells]
    used = (s for s in SEPARATORS if any(s in cell for cell in cells))
    separator = next(used, None) if several else None
    return [_names(cell, separator) for cell in cells]


def _names(cell: str | list[str], separator: str | None) -> tuple[str, ...]:
    if isinstance(cell, str):
        cell = cell.split(separator) if separator else [cell]
    return tuple(dict.fromkeys(name.strip() for name in cell if name.strip()))


def _yes_or_no_columns(table: Table) -> list[int]:
    """Return the columns that say whether an image has a label."""
    known = {table.find(PATH), table.find(SPLIT)}
    found = [i for i in range(len(table.columns)) if i not in known]
    for _, cells in table.rows:
        found = [
            i
            for i in found
            if isinstance(cells[i], str) and cells[i].lower() in YES | NO
        ]
    return found if table.rows and len(found) > 1 else []


def _splits(table: Table) -> list[str]:
    column = table.find(SPLIT)
    if column is None:
        return [''] * len(table.rows)
    known = {**dict.fromkeys(YES, 'val'), **dict.fromkeys(NO, 'train')}
    if _plain(table.columns[column]) != 'is_valid':
        known = {}
    splits = []
    for line, cells in table.rows:
        name = cells[column]
        split = known.get(name.lower()) or split_named(name)
        if split is None:
            raise DataError(
                f'{table.path}: the split {name!r} at line {line} is not '
                'train, val or test.'
            )
        splits.append(split)
    return splits


def _missing_columns(table: Table, path: int | None) -> str:
    wanted = []
    if path is None:
        wanted.append('"path"')
    if not _has_labels(table):
        wanted.append(
            '"label" (or "labels", or a column of 0 and 1 per class)'
        )
    return (
        f'{table.path} needs a header with the column {" and ".join(wanted)}; '
        f'its first line has {some(map(repr, table.columns)) or "nothing"}.'
    )


def _existing(rows: list[Row], root: Path, source: str) -> list[Row]:
    """Replace paths by those of files, and refuse missing ones."""
    found, missing = [], []
    for row in rows:
        for path in _spellings(row.path):
            if os.path.isfile(os.path.join(root, path)):
                found.append(row._replace(path=path))
                break
        else:
            missing.append(row.path)
    if missing:
        raise DataError(
            f'{len(missing):,} of the {len(rows):,} images in {source} do not '
            f'exist: {some(missing, 3)}. Paths are relative to {root}; '
            '--root gives another folder.'
        )
    return found


def _spellings(path: str) -> Iterable[str]:
    """Yield a path, and what Windows and lists of names make of it."""
    unix = str(PurePosixPath(path.replace('\\', '/')))
    for spelling in dict.fromkeys((path, unix)):
        yield spelling
        if not PurePosixPath(spelling).suffix:
            yield from (spelling + ending for ending in ENDINGS)


def _plain(column: str) -> str:
    return column.strip().lower().replace(' ', '_').replace('-', '_')


def _text(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [str(part) for part in value]
    return '' if value is None else str(value)
