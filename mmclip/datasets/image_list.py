"""Lists of images with labels, in text files."""

from collections.abc import Iterator

from mmengine.fileio import exists, list_from_file

from mmclip.errors import DataError


def read_labelled_list(
    path: str, separator: str | None = None
) -> list[tuple[str, int]]:
    """Read lines of a path and a label; blank lines are left out.

    Args:
        path (str): The list.
        separator (str | None): What stands before each label. Defaults to
            None: spaces or tabs.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: Naming the first line that is something else.
    """
    samples = []
    for number, line in _lines(path):
        name, *rest = line.rsplit(separator, maxsplit=1)
        if not rest or name.endswith((',', ';')):
            raise DataError(
                f'Line {number} of {path} is {line!r}: a line must be the '
                'path of an image, a space and its label, without commas or '
                'a heading.'
            )
        try:
            samples.append((name, int(rest[0])))
        except ValueError:
            raise DataError(
                f'Line {number} of {path} is {line!r}: the label, its last '
                f'word, is {rest[0]!r}, and must be a whole number from 0.'
            ) from None
    return samples


def read_list(path: str) -> list[str]:
    """Read lines of a path each; blank lines are left out.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    return [line for _, line in _lines(path)]


def _lines(path: str) -> Iterator[tuple[int, str]]:
    if not exists(path):
        raise FileNotFoundError(
            f'The list of images {path} does not exist: set ann_file (below '
            'data_root) to another, or leave it out for one folder per class.'
        )
    for number, line in enumerate(list_from_file(path), 1):
        text = line.lstrip('\ufeff').strip()
        if text:
            yield number, text
