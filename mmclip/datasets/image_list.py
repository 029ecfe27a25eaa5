"""Text files that list images and their labels."""

from collections.abc import Iterator

from mmengine.fileio import exists, list_from_file

from mmclip.errors import DataError


def read_labelled_list(
    path: str, separator: str | None = None
) -> list[tuple[str, int]]:
    """Read a path and a label per line, ignoring blank lines.

    Args:
        path (str): The list.
        separator (str | None): The text before each label. Defaults to None:
            spaces or tabs.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If a line is anything else; the message quotes it.
    """
    samples = []
    for number, line in _lines(path):
        name, *rest = line.rsplit(separator, maxsplit=1)
        if not rest or name.endswith((',', ';')):
            raise DataError(
                f'Line {number} of {path} is {line!r}: every line must be the '
                'path of an image, a space and its label, without commas or '
                'a header.'
            )
        try:
            samples.append((name, int(rest[0])))
        except ValueError:
            raise DataError(
                f'Line {number} of {path} is {line!r}: the label, its last '
                f'word, is {rest[0]!r}, but must be a whole number from 0.'
            ) from None
    return samples


def read_list(path: str) -> list[str]:
    """Read a path per line, ignoring blank lines."""
    return [line for _, line in _lines(path)]


def _lines(path: str) -> Iterator[tuple[int, str]]:
    if not exists(path):
        raise FileNotFoundError(
            f'The list of images {path} does not exist: correct ann_file '
            '(relative to data_root), or leave it out if there is one folder '
            'per class.'
        )
    for number, line in enumerate(list_from_file(path), 1):
        text = line.lstrip('\ufeff').strip()
        if text:
            yield number, text
