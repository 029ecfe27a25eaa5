"""The rows of a table of images, such as ``split.csv`` of a run."""

import csv
from collections.abc import Iterator

from mmclip.errors import DataError

COLUMNS = ('path', 'label', 'split')
SEPARATOR = '|'  # between the labels of an image that has several


def read_rows(path: str) -> Iterator[tuple[str, str, str]]:
    """Read the path, label and split of each row of a table of ours.

    Raises:
        DataError: If the table has other columns, or is damaged.
        FileNotFoundError: If there is no such table.
    """
    with open(path, encoding='utf-8-sig', newline='') as file:
        reader = csv.DictReader(file, strict=True)
        try:
            if missing := set(COLUMNS) - set(reader.fieldnames or ()):
                raise DataError(
                    f'{path} lacks the column {", ".join(sorted(missing))}; '
                    f'it must begin with the line {",".join(COLUMNS)}.'
                )
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f'{path} has more or fewer cells than its header at '
                        f'line {reader.line_num}.'
                    )
                yield row['path'], row['label'], row['split']
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f'{path} is damaged after line {reader.line_num}: {error}.'
            ) from error
