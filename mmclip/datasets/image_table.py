"""A data set of images in a table (CSV) of paths, labels and splits."""

import csv
import os
from collections.abc import Iterator
from typing import Any

from mmpretrain.datasets import BaseDataset

from mmclip.errors import DataError
from mmclip.registry import DATASETS

COLUMNS = ('path', 'label', 'split')
SEPARATOR = '|'  # between the labels of an image that has several


@DATASETS.register_module()
class ImageTable(BaseDataset):
    """The images of one split in a table, such as ``split.csv`` of a run.

    The table has a header with the columns ``path``, ``label`` (the name of a
    class, or several names with ``|`` between them) and ``split``.

    Args:
        ann_file (str): The table.
        classes (str | Sequence[str]): Class names in the order of the labels,
            or a file with one name per line.
        split (str | None): Whose rows to use, such as ``'train'``. Defaults
            to None: all.
        data_root (str): The folder that paths are relative to. Defaults to
            the folder of the table.
        several_labels (bool): Whether ``gt_label`` is a list of numbers.
            Defaults to False.
        **kwargs: As in mmpretrain's ``BaseDataset``.

    Raises:
        DataError: On loading, if a row names no known class, or the split has
            no image.
        FileNotFoundError: On loading, if there is no such table.
    """

    def __init__(
        self,
        ann_file: str,
        classes: Any,
        split: str | None = None,
        data_root: str | None = None,
        several_labels: bool = False,
        **kwargs: Any,
    ):
        self.split = split
        self.several_labels = several_labels
        self.table_root = data_root or os.path.dirname(ann_file)
        super().__init__(ann_file, classes=classes, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images as dicts."""
        numbers = {name: i for i, name in enumerate(self.CLASSES)}
        found = []
        for path, label, split in read_rows(self.ann_file):
            if self.split not in (None, split):
                continue
            names = label.split(SEPARATOR) if self.several_labels else [label]
            if unknown := [n for n in names if n not in numbers and n]:
                raise DataError(
                    f'{self.ann_file}: {path} has the label {unknown[0]!r}, '
                    f'which is not one of the {len(numbers)} classes.'
                )
            labels = [numbers[name] for name in names if name]
            found.append(
                dict(
                    img_path=os.path.join(self.table_root, path),
                    gt_label=labels if self.several_labels else labels[0],
                )
            )
        if not found:
            raise DataError(
                f'{self.ann_file} has no image with split {self.split!r}.'
            )
        return found


def read_rows(path: str) -> Iterator[tuple[str, str, str]]:
    """Read the path, label and split of each row of a table of ours.

    Raises:
        DataError: If the table has other columns.
        FileNotFoundError: If there is no such table.
    """
    with open(path, encoding='utf-8-sig', newline='') as file:
        reader = csv.DictReader(file)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise DataError(
                f'{path} lacks the column {", ".join(sorted(missing))}; it '
                f'must begin with the line {",".join(COLUMNS)}.'
            )
        for row in reader:
            yield row['path'], row['label'], row['split']
