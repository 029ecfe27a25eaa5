"""A data set of images in a table (CSV) of paths, labels and splits."""

import os
from typing import Any

from mmpretrain.datasets import BaseDataset

from mmclip.datasets.table_rows import SEPARATOR, read_rows
from mmclip.errors import DataError, did_you_mean
from mmclip.registry import DATASETS


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
        several_labels (bool): Whether ``gt_label`` is a list of numbers, as
            in mmpretrain's ``MultiLabelDataset``, and may be empty. Defaults
            to False.
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
        rows = [
            (path, label.split(SEPARATOR) if self.several_labels else [label])
            for path, label, split in read_rows(self.ann_file)
            if self.split in (None, split)
        ]
        if not rows:
            raise DataError(
                f'{self.ann_file} has no image with split {self.split!r}.'
            )
        if self.several_labels:  # or none
            rows = [(path, [n for n in names if n]) for path, names in rows]
        numbers = {name: i for i, name in enumerate(self.CLASSES)}
        unknown = {n: path for path, names in rows for n in names}
        for name in numbers:
            unknown.pop(name, None)
        if unknown:
            name, path = next(iter(unknown.items()))
            raise DataError(
                f'{self.ann_file}: {path} has the label {name!r}, which is '
                f'not one of the {len(numbers)} classes'
                f'{did_you_mean(name, numbers)}.'
            )
        return [
            dict(
                img_path=os.path.join(self.table_root, path),
                gt_label=[numbers[name] for name in names]
                if self.several_labels
                else numbers[names[0]],
            )
            for path, names in rows
        ]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the numbers of an image's labels."""
        label = self.get_data_info(idx)['gt_label']
        return label if self.several_labels else [label]
